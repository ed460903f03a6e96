"""The words of a precision: two spellings of each, torch's and accelerate's, are taken everywhere, and a section keeps one of them.

Which one is kept stays, because stored models, cells and scorers are named by hashes of these very words (`Section.fingerprint`).
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator

SPELLINGS = (("float32", "no"), ("bfloat16", "bf16"), ("float16", "fp16"))  # torch's word and accelerate's


class Kept:
    """Takes either spelling of the precisions that are named here, and keeps the one of `words`."""

    def __init__(self, *words: str) -> None:
        pairs = [pair for pair in SPELLINGS if set(pair) & set(words)]
        self.kept = {said: next(word for word in pair if word in words) for pair in pairs for said in pair}
        self.others = [said for said, word in self.kept.items() if said != word]

    def __call__(self, value: object) -> object:
        """The word that is kept for a value; ValueError tells all that are taken."""
        if not isinstance(value, str) or value not in self.kept:
            raise ValueError(f"expected {' or '.join(dict.fromkeys(self.kept.values()))}, also spelt {' or '.join(self.others)}")
        return self.kept[value]


# Of a model's products; sums and what is stored stay float32.
Precision = Annotated[Literal["float32", "bfloat16"], BeforeValidator(Kept("float32", "bfloat16"))]
# Of a pre-training, in accelerate's words.
Mixed = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(Kept("no", "bf16", "fp16"))]
