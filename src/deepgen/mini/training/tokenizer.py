"""The mini's own vocabulary: bytes, merges learned from its world's sentences, special tokens.

Special tokens have Qwen2.5's names and roles, so the same prompt template serves both; any text
can be written, since whatever has no merge falls back to bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# A word to be drawn is a token a letter: how a merge of letters is spelled would have to be learned
# for every merge, and such words are seen too seldom for that.
_SPELLED = r"[A-Z0-9](?=[A-Z0-9])|(?<=[A-Z0-9])[A-Z0-9]"


def train_tokenizer(sentences: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE of at most ``vocabulary`` entries, special tokens included.

    Capitals and digits in a row are tokens of their own.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPELLED), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[
            token for token in SPECIAL_TOKENS if token not in ("<|endoftext|>", "<|im_end|>")
        ],
        clean_up_tokenization_spaces=False,
    )
