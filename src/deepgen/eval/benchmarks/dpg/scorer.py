"""DPG-Bench's questions, answered by a VQA model, a worker or a judge."""

from __future__ import annotations

from collections.abc import Mapping

from deepgen.errors import ScorerError
from deepgen.eval.benchmark import Benchmark, ImageRecord
from deepgen.eval.benchmarks.dpg.benchmark import QUESTIONS
from deepgen.eval.judge.prompts import paraphrased_prompts
from deepgen.eval.judge.scorer import create_judge
from deepgen.eval.models import find_worker
from deepgen.eval.scorer import (
    GeneratedImage,
    ImageScorer,
    ScoringOptions,
    library_versions,
    require_one,
    status_of,
)
from deepgen.scoring import vqa
from deepgen.scoring.answers import AnswerStatus
from deepgen.scoring.judge import HttpJudge
from deepgen.scoring.vqa import BlipAnswers, JudgeAnswers, QuestionAnswerer, RemoteAnswers


def create_scorer(benchmark: Benchmark, options: ScoringOptions) -> ImageScorer:
    """A worker, a judge, or a local VQA model; BLIP where none was named."""
    require_one(benchmark, options, "worker_url", "judge_url", "vqa")
    if options.worker_url:
        remote = RemoteAnswers(find_worker(options))
        return DpgScorer(remote, {"vqa": remote.name})
    if options.judge_url:
        prompts = paraphrased_prompts(benchmark)
        judge = create_judge(benchmark, options, (16, 2048, 8192))
        identity = {
            "judge": judge.config.model if isinstance(judge, HttpJudge) else judge.name,
            "judge_prompts": prompts.origin,
            "judge_prompts_sha256": prompts.sha256,
        }
        answers = JudgeAnswers(judge, prompts.texts["question"])
        return DpgScorer(answers, identity, concurrency=options.judge_concurrency)
    local = BlipAnswers(options.vqa or vqa.CHECKPOINT, device=options.device)
    return DpgScorer(local, {"vqa": local.name, **library_versions()})


class DpgScorer(ImageScorer):
    """Asks all questions of a prompt about one image; what follows from what is arithmetic.

    Args:
        vqa: Who answers.
        identity: Its name and, of a judge, its prompts.
    """

    def __init__(
        self, vqa: QuestionAnswerer, identity: Mapping[str, str], *, concurrency: int = 1
    ) -> None:
        super().__init__(identity, concurrency=concurrency)
        self.vqa = vqa

    def check(self) -> None:
        """See that a judge answers; models and workers were reached before."""
        if isinstance(self.vqa, JudgeAnswers) and isinstance(self.vqa.judge, HttpJudge):
            self.vqa.judge.check()

    def __call__(self, generated: GeneratedImage) -> ImageRecord:
        """Ask all questions about one image.

        Raises:
            ScorerError: The file of questions is not among the prompts.
        """
        questions = generated.item.fields["questions"]
        if not questions:
            raise ScorerError(
                f"item {generated.item.id} has no questions: {QUESTIONS} is needed for scoring; "
                "fetch it with deepgen eval fetch dpg, or put it next to the prompts"
            )
        answers = self.vqa.ask(generated.image, [each["question"] for each in questions])
        for each, answer in zip(questions, answers, strict=False):
            if answer.status is not AnswerStatus.SCORED:
                return generated.failed(status_of(answer), f"{each['question']}: {answer.reason}")
        values = {each["id"]: bool(a.value) for each, a in zip(questions, answers, strict=True)}
        replies = [
            f"{each['question']} {'yes' if values[each['id']] else 'no'}" for each in questions
        ]
        judged = {"answers": values, "judge": answers[0].model or self.vqa.name}
        return generated.record(judged, "\n".join(replies))
