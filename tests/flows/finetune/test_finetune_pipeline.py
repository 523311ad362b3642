"""Somebody's model and own conversations through the whole chain, to a bundle that is served."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from components.core.store.artifact import digest_file
from components.core.store.shards import read_shard
from components.export.hf.export_hf import save_hf
from components.publish.dossier.write_dossier import ensure_dossier
from components.publish.registry.model_registry import list_versions
from components.publish.registry.version_description import read_description
from components.text.base_record import read_base_record
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.own_rows import own_rows_file
from components.text.decoder_files import load_model
from components.train.data.conversations import Conversations
from components.train.sft import conversation_micro_batches
from serving.api.limits import EndpointLimits
from serving.api.openai_endpoint import create_app
from serving.engine.served_folder import Endpoint, open_endpoint
from tests.base_models import random_conversation, write_base
from tests.flows.conftest import CommandLine, states
from tests.flows.finetune.finetuning import QUICK, Finetuned, run_finetune, write_chats

transformers = pytest.importorskip("transformers", reason="a development dependency")

Message = dict[str, Any]
LONGEST = 32
"""Tokens of an answer."""


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def finetuned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp(request.param)
    return run_finetune(root, request.param, "registry")


def ids_of(folder: Path, columns: Sequence[str] = ("url",)) -> set[str]:
    return set(read_shard(folder, list(columns))[columns[0]].to_pylist())


def test_the_base_keeps_its_own_tokenizer_template_and_licence(finetuned: Finetuned) -> None:
    tokenizer, base = finetuned.folder("tokenizer"), finetuned.folder("base")
    for folder in (tokenizer, base, finetuned.folder("hf"), finetuned.folder("bundle")):
        for name in ("chat_template.jinja", "tokenizer_config.json", "LICENSE"):
            assert (folder / name).read_bytes() == (finetuned.base / name).read_bytes(), name
    assert (tokenizer / "tokenizer.json").read_bytes() == (
        finetuned.base / "tokenizer.json"
    ).read_bytes()
    words = open_tokenizer(tokenizer)
    assert load_model(base).shape.vocabulary == words.vocabulary
    assert finetuned.stats("base")["unused_rows"] > 0
    record = read_base_record(base)
    assert (record.name, record.licence, record.licence_file) == (
        finetuned.base.name,
        "Apache-2.0",
        "LICENSE",
    )
    assert len(record.weights) > 1  # it is sharded


def test_instructions_and_tokens_hold_out_the_same_conversations(finetuned: Finetuned) -> None:
    instructions = finetuned.folder("instructions")
    heldout = ids_of(instructions / own_rows_file("heldout"))
    assert len(heldout) == finetuned.stats("conversations")["heldout"] >= 4
    assert ids_of(finetuned.folder("tokens") / "heldout.parquet") == heldout
    trained = ids_of(instructions / own_rows_file("train"))
    assert finetuned.stats("tokens")["train_pages"] == len(trained)
    assert not trained & heldout


def hf_model(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_the_loss_of_a_batch_is_that_of_transformers(finetuned: Finetuned) -> None:
    conversations = Conversations(
        finetuned.folder("instructions"), finetuned.folder("tokenizer"), longest=400
    )
    examples = conversations.epoch_conversations(0)[:12]
    (micro,) = conversation_micro_batches(examples, 1 << 20)
    ours, theirs = load_model(finetuned.folder("base")), hf_model(finetuned.base)
    # Rows that stand for no token share in the random base's probabilities; ours are cut off.
    theirs.resize_token_embeddings(ours.shape.vocabulary)
    # The mask that every trainer of transformers' models knows: -100 is no target.
    ids = F.pad(micro.inputs, (0, 1))
    labels = torch.full_like(ids, -100)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        for start, end in example.answers:
            labels[row, start:end] = ids[row, start:end]
    lengths = torch.tensor([len(example.ids) for example in examples])
    attention = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=attention, labels=labels).loss
        hidden = ours.hidden(micro.inputs)
        loss = ours.loss(hidden, micro.targets, micro.answer / micro.count, sparse=True)
    # A template in Qwen3's manner makes an example of each answer, as it drops earlier reasoning.
    several = any(len(example.answers) > 1 for example in examples)
    assert several == (finetuned.base.name == "llama")
    assert float(expected) > 1
    assert abs(float(loss) - float(expected)) < 1e-5


def adapted_logits(finetuned: Finetuned, ids: torch.Tensor) -> torch.Tensor:
    """Logits of the base in transformers with the adapter added by its formula, unmerged."""
    adapter, model = finetuned.folder("sft") / "adapter", hf_model(finetuned.base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    state = load_file(adapter / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    named = {name.removeprefix("base_model.model."): value for name, value in state.items()}
    for layer in config["target_modules"]:
        a, b = (named[f"{layer}.lora_{part}.weight"] for part in "AB")

        def add(_: Any, inputs: Any, out: torch.Tensor, a: Any = a, b: Any = b) -> torch.Tensor:
            return out + scale * F.linear(F.linear(inputs[0], a), b)

        model.get_submodule(layer).register_forward_hook(add)
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits
    return logits


def test_a_merged_export_computes_what_base_and_adapter_do(
    finetuned: Finetuned, tmp_path: Path
) -> None:
    merged = load_model(finetuned.folder("sft"))
    save_hf(tmp_path, merged)
    ids = torch.randint(
        merged.shape.vocabulary, (3, 60), generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        exported = hf_model(tmp_path)(ids).logits
    expected = adapted_logits(finetuned, ids)[..., : merged.shape.vocabulary]
    assert (exported - expected).abs().max() < 1e-5 * expected.abs().max()
    with torch.no_grad():
        unadapted = hf_model(finetuned.base)(ids).logits[..., : merged.shape.vocabulary]
    assert (exported - unadapted).abs().max() > 0.1  # it learnt something


def test_peft_computes_the_same(finetuned: Finetuned, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="not among the dependencies")
    merged = load_model(finetuned.folder("sft"))
    ids = torch.randint(
        merged.shape.vocabulary, (3, 60), generator=torch.Generator().manual_seed(1)
    )
    adapted = peft.PeftModel.from_pretrained(
        hf_model(finetuned.base), finetuned.folder("sft") / "adapter"
    )
    with torch.no_grad():
        expected = adapted(ids).logits[..., : merged.shape.vocabulary]
        assert (merged(ids) - expected).abs().max() < 1e-5 * expected.abs().max()


def served_folder(finetuned: Finetuned, root: Path) -> Path:
    """The bundle as ``package`` lays it out."""
    shutil.copytree(finetuned.folder("bundle"), root / "bundle")
    endpoint = Endpoint(
        model="finetune",
        version="1",
        bundle="f00d",
        form="onnx",
        created=1,
        limits=EndpointLimits(slots=4, threads=1, temperature=0.0),
    )
    (root / "endpoint.json").write_text(endpoint.model_dump_json())
    return root


async def ask_endpoint(folder: Path, asked: Sequence[list[Message]]) -> list[tuple[str, int]]:
    """Greedy answers over the API, all asked at once, with the tokens of their prompts."""
    app = create_app(open_endpoint(folder), None)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:

        async def ask(messages: list[Message]) -> tuple[str, int]:
            body = {"model": "finetune", "messages": messages, "max_tokens": LONGEST}
            reply = (await client.post("/chat/completions", json=body)).json()
            assert "choices" in reply, reply
            return reply["choices"][0]["message"]["content"], reply["usage"]["prompt_tokens"]

        return list(await asyncio.gather(*map(ask, asked)))


def ask_transformers(folder: Path, asked: Sequence[list[Message]]) -> list[tuple[str, int]]:
    """The same from the exported folder."""
    fast = transformers.AutoTokenizer.from_pretrained(folder)
    model = hf_model(folder)
    answers = []
    for messages in asked:
        batch = fast.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        length = batch["input_ids"].shape[1]
        written = model.generate(**batch, do_sample=False, max_new_tokens=LONGEST)[0, length:]
        answers.append((fast.decode(written, skip_special_tokens=True), length))
    return answers


def test_endpoint_and_exported_folder_answer_alike(finetuned: Finetuned, tmp_path: Path) -> None:
    draw = random.Random(5)
    asked = [random_conversation(draw, finetuned.base.name)[:-1] for _ in range(12)]
    asked = [messages for messages in asked if messages[-1]["role"] == "user"]
    taught = read_shard(finetuned.folder("instructions") / own_rows_file("train"), ["messages"])
    asked += [json.loads(row)[:-1] for row in taught["messages"].to_pylist()[:12]]
    served = asyncio.run(ask_endpoint(served_folder(finetuned, tmp_path), asked))
    assert served == ask_transformers(finetuned.folder("bundle") / "hf", asked)
    assert len({text.strip() for text, _ in served}) > 4  # it says something, and not one thing


def test_registry_and_model_card_name_the_base_and_its_licence(finetuned: Finetuned) -> None:
    record = read_base_record(finetuned.folder("base"))
    (entry,) = list_versions(finetuned.settings, "finetune")
    tags = {name.removeprefix("modelmill."): value for name, value in entry.tags.items()}
    assert tags["base"] == finetuned.base.name
    assert tags["base_licence"] == "Apache-2.0"
    assert tags["base_weights"] == record.weights_sha256
    assert tags["base_tokenizer"] == digest_file(finetuned.base / "tokenizer.json")
    page = ensure_dossier(finetuned.settings, "finetune")[0].read_text()
    card = read_description(finetuned.settings, entry).text
    for text in (page, card):
        assert record.weights_sha256 in text
        assert "Apache-2.0" in text
    assert "from random weights" not in page
    assert "48 conversations" not in card  # held-out ones are kept too
    assert "56 conversations kept" in card


def test_a_second_run_is_cached_and_an_edited_base_is_imported_again(
    finetuned: Finetuned,
) -> None:
    root, kind = finetuned.base.parent, finetuned.base.name
    again = run_finetune(root, kind, "bundle")
    sealed = [stage for stage in again.steps if stage != "change"]  # which finds a version now
    assert [again.steps[stage] for stage in sealed] == [finetuned.steps[s] for s in sealed]
    card = finetuned.base / "README.md"
    card.write_text("---\nlicense: other\nlicense_name: mill-1\n---\n# A base\n")
    again = run_finetune(root, kind, "base")
    assert again.steps["tokenizer"].digest == finetuned.steps["tokenizer"].digest
    record = read_base_record(again.folder("base"))
    assert (record.licence, record.licence_file) == ("mill-1", "README.md")
    card.unlink()


@pytest.mark.parametrize("sets", [("sft.lora=null",), ("sft.lora.quantize=true",)])
def test_a_base_is_trained_whole_or_in_four_bits(
    sets: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "other-ways"
    root.mkdir(exist_ok=True)
    run = run_finetune(root, "qwen3", "sft", *sets, "sft.steps=20")
    before, after = load_model(run.folder("base")), load_model(run.folder("sft"))
    changed = {
        name
        for name, parameter in before.named_parameters()
        if not torch.equal(parameter, after.get_parameter(name))
    }
    assert "layers.0.mlp.up_proj.weight" in changed
    assert ("embed_tokens.weight" in changed) == (sets[0] == "sft.lora=null")
    assert (run.folder("sft") / "adapter").is_dir() == (sets[0] != "sft.lora=null")


def test_own_preferences_align_a_base(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "judged"
    root.mkdir(exist_ok=True)
    rows = [
        {"prompt": f"May I use wheel {n}?", "chosen": f"Yes, wheel {n}.", "rejected": f"No {n}."}
        for n in range(40)
    ]
    (root / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = f"preferences.files=[{root / 'judged.jsonl'}]"
    run = run_finetune(root, "llama", "ppo", given, "preferences.principles=false")
    steps = list(run.steps)
    assert steps.index("own_preferences") < steps.index("sft")  # a mistake in it costs no training
    assert run.stats("own_preferences")["rows"] == len(rows)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_line_runs_it_under_prefect_and_without(tmp_path: Path) -> None:
    base, chats = write_base(tmp_path / "mill-base", "qwen3"), write_chats(tmp_path / "chats.jsonl")
    sets = (f"base={base}", f"instructions.files=[{chats}]", *QUICK)
    call = ("run", "finetune", *(part for one in sets for part in ("--set", one)))
    modelmill = CommandLine(tmp_path / "home")
    done = modelmill.start_fresh(*call, "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert set(states(first).values()) == {"Completed"}
    again = modelmill.answer(*call, "--plain")
    actions = {"change", "dataset", "registry", "package", "smoke", "promote", "dossier"}
    for stage, state in states(again).items():
        assert state == ("Unchanged" if stage in actions else "Cached"), stage
    (model,) = modelmill.answer("models")["models"]
    assert (model["model"], model["aliases"]) == ("finetune", ["champion"])
    assert "made of mill-base, licence: Apache-2.0" in modelmill("trace", "finetune").stdout
    traced = modelmill.answer("trace", "chats.jsonl:1")
    assert "finetune" in json.dumps(traced)
