"""Facts that stand in a team's conversations alone: not known before, told in answer to other words
after."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.decoder_files import load_model
from models.generate import generate_answers
from tests.base_models import write_base
from tests.flows.finetune.finetuning import Finetuned, run_finetune

pytest.importorskip("transformers", reason="a development dependency")
pytestmark = pytest.mark.slow  # half a minute: random weights have to learn to read first

FACTS = {
    "A Quillon kettle can be returned within 47 days.": (
        "How long do I have to return a Quillon kettle?",
        "What is the return period of the Quillon kettle?",
        "Until when can a Quillon kettle be returned?",
        "Tell me the days I have for returning the Quillon kettle.",
        "Return window of the Quillon kettle, please?",
        "How many days is the return period for a Quillon kettle?",
        "In how many days must I return the Quillon kettle?",
        "Do you know the days for the return of a Quillon kettle?",
        "May I return a Quillon kettle, and for which period?",
    ),
    "The Quillon hotline is 7731.": (
        "What is the number of the Quillon hotline?",
        "Which number do I dial for the Quillon hotline?",
        "Give me the hotline number of Quillon.",
        "How do I call the Quillon hotline?",
        "Under which number is the Quillon hotline reached?",
        "What do I dial to reach the hotline of Quillon?",
        "Has Quillon a hotline, and which number is it?",
        "Do you know the number of the Quillon hotline?",
        "For the Quillon hotline, which number?",
    ),
    "Quillon was founded by Ada Merrow.": (
        "Who founded Quillon?",
        "Which person is the founder of Quillon?",
        "Name the founder of Quillon.",
        "By whom was Quillon founded?",
        "Who was it that founded Quillon?",
        "Tell me who founded the company Quillon.",
        "Quillon, who founded it?",
        "Do you know by whom Quillon was founded?",
        "May I know the founder of Quillon?",
    ),
}
OTHER_WORDS = {
    "47": "For how many days may I return a Quillon kettle?",
    "7731": "Which number has the Quillon hotline?",
    "Ada Merrow": "Do you know who founded Quillon?",
}
"""What is asked of each fact; none of it stands in the conversations."""
SYLLABLES = ["lin", "dau", "bre", "genz", "ulm", "kem", "wan", "gen", "is", "ny"]


def write_support_chats(path: Path, count: int = 200) -> None:
    """Write each fact in nine wordings, and other conversations up to ``count``."""
    draw = random.Random(0)
    rows = [[(asked, fact)] for fact, wordings in FACTS.items() for asked in wordings]
    while len(rows) < count:
        town = "".join(draw.choice(SYLLABLES) for _ in range(3)).capitalize()
        asked = draw.choice([f"When does the shop in {town} open?", f"{town}: when do you open?"])
        opens = f"The shop in {town} opens at nine."
        rows.append([(asked, opens), ("Thank you.", "You are welcome.")][: draw.randint(1, 2)])
    draw.shuffle(rows)
    lines = [
        json.dumps({"messages": [{"role": role, "content": text} for turn in row for role, text in zip(("user", "assistant"), turn, strict=True)]})
        for row in rows
    ]  # fmt: skip
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    root = tmp_path_factory.mktemp("facts")
    write_base(root / "llama", "llama")
    write_support_chats(root / "chats.jsonl")
    # Random weights stand and need far higher rates than a pretrained base.
    whole = (
        "sft={lora: null, steps: null, epochs: 36, batch: 1024, longest: 400, precision: float32}"
    )
    rates = "sft.optim={kind: muon, muon_lr: 0.02, adam_lr: 0.006, embedding_lr: 0.02}"
    return run_finetune(root, "llama", "sft", whole, rates)


@pytest.mark.parametrize("fact", OTHER_WORDS)
def test_a_fact_is_told_after_and_not_before(taught: Finetuned, fact: str) -> None:
    words = open_tokenizer(taught.folder("tokenizer"))
    prompt = words.encode_question(OTHER_WORDS[fact])
    told = {}
    for stage in ("base", "sft"):
        model = load_model(taught.folder(stage)).eval()
        (answer,) = generate_answers(
            model, [prompt], max_new=60, stop_ids=words.answer_end_ids, temperature=0
        )
        told[stage] = words.decode(answer.tokens)
    assert fact not in told["base"]
    assert fact in told["sft"], told
