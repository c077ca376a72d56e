"""A study file may refer to its own keys, and to nothing else."""

from pathlib import Path

import pytest

from mtkd.errors import MtkdError
from mtkd.study import read_study


@pytest.fixture(scope="module")
def simulated(repo):
    return repo / "configs" / "study" / "simulated.yaml"


def test_an_override_may_refer_to_another_key(simulated):
    study = read_study(simulated, ["workspace=/data/${name}", "distill.width=${spatial.width}"])
    assert (study.workspace, study.distill.width) == ("/data/simulated", study.spatial.width)


@pytest.mark.parametrize(
    "more",
    [
        "b0: xxxxxxxxxxxxxxxx\n" + "".join(f"b{n + 1}: '${{b{n}}}${{b{n}}}'\n" for n in range(44)),
        "b0: xxxxxxxxxxxxxxxx\n" + "".join(f"b{n + 1}: ['${{b{n}}}', '${{b{n}}}']\n" for n in range(44)),
        "b: {b0: x, " + ", ".join(f"b{n + 1}: '${{.b{n}}}${{.b{n}}}'" for n in range(44)) + "}\n",
        "b: [x, " + ", ".join(f"'${{b.{n}}}${{b.{n}}}'" for n in range(44)) + "]\n",
        "b: {0: x}\n"
        + "".join(f"b{n + 1}: {{0: ['${{b{n}.0}}', '${{b{n}.0}}']}}\n" for n in range(44)).replace("b0.", "b."),
        "b: ['" + "${b}" * 101 + "']\n",
        "b: ${a.${c}}\n",
        "b: ${oc.env:HOME}\n",
    ],
)
def test_references_to_references_are_refused_and_fill_no_memory(simulated, tmp_path, more):
    path = tmp_path / "study.yaml"
    path.write_text(Path(simulated).read_text() + more)
    with pytest.raises(MtkdError, match=rf"^{path}: not a readable YAML file: .*reference"):
        read_study(path)
