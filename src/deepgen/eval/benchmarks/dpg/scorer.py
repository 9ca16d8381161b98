"""DPG-Bench's questions, answered by a VQA model, a worker or a judge."""

from __future__ import annotations

from collections.abc import Mapping

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import ImageRecord
from deepgen.eval.benchmarks.dpg.benchmark import QUESTIONS
from deepgen.eval.judged.judging import failed, status_of
from deepgen.eval.scorer import Drawing
from deepgen.scoring.answers import Status
from deepgen.scoring.judge import HttpJudge
from deepgen.scoring.vqa import AnswersQuestions, JudgeAnswers


class DpgScorer:
    """Asks all questions of a prompt about one image; what follows from what is arithmetic.

    Args:
        vqa: Who answers.
        identity: Its name and, of a judge, its wording.
    """

    def __init__(
        self, vqa: AnswersQuestions, identity: Mapping[str, str], *, concurrency: int = 1
    ) -> None:
        self.vqa = vqa
        self.identity = identity
        self.concurrency = concurrency

    def check(self) -> None:
        """See that a judge answers; models and workers were met when the scorer was opened."""
        if isinstance(self.vqa, JudgeAnswers) and isinstance(self.vqa.judge, HttpJudge):
            self.vqa.judge.check()

    def __call__(self, drawing: Drawing) -> ImageRecord:
        """Ask all questions about one image.

        Raises:
            ScorerError: The file of questions is not among the prompts.
        """
        questions = drawing.item.fields["questions"]
        if not questions:
            raise ScorerError(
                f"item {drawing.item.id} has no questions: {QUESTIONS} is needed for scoring; "
                "fetch it with deepgen eval fetch dpg, or put it beside the prompts"
            )
        answers = self.vqa.ask(drawing.image, [each["question"] for each in questions])
        for each, answer in zip(questions, answers, strict=False):
            if answer.status is not Status.SCORED:
                return failed(drawing, status_of(answer), f"{each['question']}: {answer.reason}")
        said = {each["id"]: bool(a.value) for each, a in zip(questions, answers, strict=True)}
        told = [f"{each['question']} {'yes' if said[each['id']] else 'no'}" for each in questions]
        return ImageRecord(
            item=drawing.item.id,
            copy=drawing.copy,
            values={"answers": said, "judge": answers[0].model or self.vqa.name},
            reason="\n".join(told),
        )
