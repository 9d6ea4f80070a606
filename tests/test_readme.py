"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

from gradcheck.agreement import Verdict
from gradcheck.checks import check_class

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_layer_of_the_readme_holds_every_property() -> None:
    (source,) = (each for each in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "Softsign" in each)
    template = (ROOT / "nets" / "layers" / "sigmoid.py").read_text(encoding="utf-8")
    imports = template[: template.index("@dataclass")]
    namespace: dict[str, object] = {"__name__": "softsign"}
    exec(compile(imports + source, "README.md", "exec"), namespace)  # noqa: S102  our own page
    results = check_class(namespace["Softsign"]).findings  # type: ignore[arg-type]
    assert [result.verdict for result in results] == [Verdict.PASS] * len(results)
    assert len(results) > 9


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"`make ([a-z]+)`", README))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:.*## ", makefile, flags=re.MULTILINE) for target in targets)
