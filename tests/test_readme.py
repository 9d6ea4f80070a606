"""What the README and the pages of docs/ show is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gradcheck.contract import Key
from gradcheck.subjects.twin import set_keys
from gradcheck.trajectory import TrajectoryMismatch, TrajectoryReport
from nets import INITIALIZERS, LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from nets.layers import Sequential

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}


def examples_of(page: str) -> list[str]:
    """Return the programs that a page shows: its blocks of Python that import something."""
    sources = re.findall(r"```python\n(.*?)```", DOCS[page], flags=re.DOTALL)
    return [str(source) for source in sources if "import " in source]


def example_of(page: str) -> str:
    """Return the first program that a page shows."""
    return examples_of(page)[0]


def test_the_index_lists_every_page() -> None:
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", DOCS["README.md"])) == DOCS.keys() - {"README.md"}


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in DOCS)])
def test_every_link_leads_to_a_file(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)#]+)", text)}
    assert [target for target in sorted(targets) if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"`make ([a-z-]+)`", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE) for target in targets)


def test_the_network_of_the_docs_trains_and_torch_reads_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = example_of("networks.md")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    given = {"images": rng.random((4, 1, 28, 28)), "labels": rng.integers(0, 10, 4)}
    exec(compile(source, "docs", "exec"), given)  # noqa: S102  our own page
    model = given["model"]
    assert isinstance(model, Sequential)
    module = model.twin().double()
    set_keys(module, Key())
    module.load_state_dict(torch.load("weights.pt", weights_only=True))
    assert module.state_dict()["1.num_batches_tracked"] == 1
    for name, tensor in module.state_dict().items():
        assert np.array_equal(tensor.numpy(), (model.parameters() | model.buffers())[name])


@pytest.mark.short(1)
@pytest.mark.parametrize("source", examples_of("compare-your-engines.md"))
def test_the_engines_of_the_docs_are_the_same_program(source: str) -> None:
    given: dict[str, object] = {}
    exec(compile(source, "docs", "exec"), given)  # noqa: S102  our own page
    report = given["report"]
    assert isinstance(report, TrajectoryReport)
    assert report.sensitivity is not None
    assert report.sensitivity.smallest is not None
    assert report.sensitivity.smallest.size < 1e-12


def test_the_loops_of_the_docs_are_the_same_program(capsys: pytest.CaptureFixture[str]) -> None:
    source = example_of("compare-your-loops.md")
    exec(compile(source, "docs", "exec"), {})  # noqa: S102  our own page
    assert " ".join(capsys.readouterr().out.split()).startswith(
        "PASS: the loops are the same program: all of 20 steps agree within rounding noise."
    )


@pytest.mark.long
def test_loops_that_differ_from_those_of_the_docs_fail() -> None:
    source = example_of("compare-your-loops.md")
    wrong = source.replace("labels) / 4)", "labels))")
    assert wrong != source
    with pytest.raises(TrajectoryMismatch) as raised:
        exec(compile(wrong, "docs", "exec"), {})  # noqa: S102  as above
    assert "They part at step 0, loss, loss.value: ours" in " ".join(str(raised.value).split())


def test_the_docs_count_right() -> None:
    clipping = sum(rule.__name__.startswith("Clipped") for rule in OPTIMIZERS)
    counts = {
        "layers": len(LAYERS), "losses": len(LOSSES), "optimizers": len(OPTIMIZERS) - clipping,
        "schedules": len(SCHEDULES), "initialisers": len(INITIALIZERS),
    }  # fmt: skip
    for what, count in counts.items():
        assert f" {count} {what}" in DOCS["networks.md"].replace("\n", " "), f"there are {count} {what}"
