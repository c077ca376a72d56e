"""Reading a study file: what is refused and with which words, and what overrides do."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Simulation, Study
from mtkd.errors import MtkdError
from mtkd.files import fingerprint
from mtkd.study import changed, read_study


@pytest.fixture(scope="module")
def simulated(repo):
    return repo / "configs" / "study" / "simulated.yaml"


def refused(path, *overrides: str) -> str:
    """The sentence with which a study is refused."""
    with pytest.raises(MtkdError) as caught:
        read_study(path, list(overrides))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("sede=3", "unknown key sede"),
        ("distill.temprature=3", "unknown key distill.temprature"),
        ("distill.optim.lrr=3", "unknown key distill.optim.lrr"),
        ("data.a=1", "unknown key data.a"),
        ("a..b=1", "unknown key a"),
        ("seed=x", "seed: Input should be a valid integer, found 'x'"),
        ("seed=1.5", "seed: Input should be a valid integer, found 1.5"),
        ("seed=true", "seed: Input should be a valid integer, found True"),
        ("seed=-1", "seed: "),
        ("windows.window_s='6'", "windows.window_s: Input should be a valid number, found '6'"),
        ("windows.window_s=.nan", "windows.window_s: "),
        ("windows.window_s=.inf", "windows.window_s: "),
        ("distill.temperature=.inf", "distill.temperature: "),
        ("distill.temperature=0", "distill.temperature: Input should be greater than 0, found 0"),
        ("data.simulate.n_subjects.x=1", "data.simulate.n_subjects: "),
        ("data=3", "data: "),
        ("splits=null", "splits: "),
        ("labels={}", "labels: "),
        ("labels={a: 1, b: 2, c: 3, d: 4, e: 5}", "labels: "),
        ("labels.valence=abc", "labels.valence: "),
        ("classes=[a]", "classes names 1, but the labels make 4"),
        ("data.reader=mat", "data: reader must be one of deap, mahnob, edf, bids and table"),
        ("data.subjects=[1, 2]", "data.subjects.0: "),
        ("data.simulate=null", "data: one of folder, simulate is needed"),
        ("data={reader: edf, folder: x, conditions: {a: {}}, pattern: x.edf}", "{subject}"),
        ("data={reader: edf, folder: x, conditions: {a: {}}, pattern: '{subject}.edf'}", "{condition}"),
        ("data={reader: edf, folder: x, conditions: {}}", "data.conditions: "),
        ("data={reader: table}", "data: folder is needed"),
        ("data={reader: bids, folder: x, ratings: {a: {}}}", "data.ratings: a names no column"),
        ("data={subjects: [a], exclude: [a], reader: mahnob, folder: x}", "data: subjects and exclude both name a"),
        ("data.conditions={}", "unknown key data.conditions"),
        ("name=A b", "name: "),
        ("signals.modalities={}", "signals.modalities: "),
        ("signals.modalities.foo.sfreq=3", "signals.modalities.foo"),
        ("signals.modalities.eeg.steps=[{bandpass: [1]}]", "signals.modalities.eeg.steps.0.bandpass.bandpass"),
        (
            "signals.modalities.eeg.steps=[nothing]",
            "signals.modalities.eeg.steps.0: a step is one alone of notch, bandpass",
        ),
        ("signals.modalities.eeg.steps=[{bandpass: [1, a]}]", "signals.modalities.eeg.steps.0.bandpass"),
        ("distill.modalities=[eeg]", "the student must not need EEG"),
        ("distill.modalities=[ecg]", "distill.modalities names ecg"),
        ("temporal.modalities=[ecg]", "temporal.modalities names ecg"),
        ("distill.teachers={graph: 1}", "distill.teachers.graph"),
        ("windows.hop_s=5", "windows.hop_s is 5.0 s, which temporal.patch_s = 6.0 s does not divide"),
        ("temporal.patch_s=1e12", "windows.window_s"),
        ("evaluate.baseline=nobody", "evaluate.baseline names 'nobody'"),
        ("predict.student=nobody", "predict.student names 'nobody'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key_and_the_file(simulated, override, key):
    sentence = refused(simulated, override)
    assert key in sentence
    assert str(simulated) in sentence


@pytest.mark.parametrize("override", ["seed", "", "no equals sign"])
def test_an_override_without_a_value_is_refused_by_its_own_text(simulated, override):
    assert refused(simulated, override) == f"override {override!r}: expected key.sub=value"


@pytest.mark.parametrize(
    "override", ["data.simulate=[", "=5", "labels={", "distill.temperature=${nothing}", "seed=3\nx: 4"]
)
def test_an_override_that_is_no_yaml_is_refused(simulated, override):
    assert str(simulated) in refused(simulated, override)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"3",
        b"null",
        b"- a\n- b",
        b"name: [",
        b"a: b: c",
        b"name: x\nname: y",
        b"\tname: x",
        b"? [a, b]\n: 1",
        b"a: &x [*x]",
        b"---\na: 1\n---\nb: 2",
        b"a: ${nokey}",
        b"\x00\x01\xff\xfe" * 50,
        b"\x80abc",
        bytes(range(256)),
        b"!!python/object/apply:os.mkdir ['ran']",
    ],
    ids=repr,
)
@pytest.mark.parametrize("overrides", [[], ["seed=3"]], ids=["plain", "override"])
def test_a_file_that_holds_no_study_is_refused_by_its_name(tmp_path, monkeypatch, content, overrides):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    assert refused(path, *overrides).startswith(str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["nothing.yaml", ".", "file/below.yaml", "n" * 300, "zero\0byte"])
def test_a_path_that_is_no_file_is_refused_by_its_name(tmp_path, place):
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / place).startswith(str(tmp_path / place))


def test_every_required_key_is_missed_by_its_name(simulated, tmp_path):
    whole = yaml.safe_load(simulated.read_text())
    required = [name for name, field in Study.model_fields.items() if field.is_required()]
    assert len(required) >= 7
    for key in required:
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump({name: part for name, part in whole.items() if name != key}))
        assert refused(path) == f"{path}: {key}: Field required"


def test_only_the_first_of_several_errors_is_told_and_the_rest_counted(simulated):
    assert refused(simulated, "seed=x", "name=A", "nokey=1").endswith("(and 2 more)")


def test_a_student_with_an_unknown_key_is_refused_before_anything_runs(simulated):
    assert "temprature" in refused(
        simulated, "evaluate.students.distilled={temprature: 3}", "evaluate.baseline=distilled"
    )


def test_a_student_that_needs_eeg_is_refused_before_anything_runs(simulated):
    override = "evaluate.students={labels alone: {teachers: {}}, distilled: {modalities: [eeg]}}"
    assert "eeg" in refused(simulated, override)


@pytest.mark.parametrize(
    ("name", "why"),
    [("Distilled!", ", as 'distilled' has it"), ("!?", ""), ("Temporal-teacher", ", as 'temporal teacher' has it")],
)
def test_a_student_whose_files_would_be_anothers_is_refused(simulated, name, why):
    students = f"{{labels alone: {{teachers: {{}}}}, distilled: {{}}, '{name}': {{}}}}"
    said = refused(simulated, f"evaluate.students={students}")
    assert said.endswith(f"evaluate.students: {name!r} cannot name files of its own{why}")


def test_a_baseline_with_teachers_is_refused(simulated):
    assert "evaluate.baseline names 'distilled'" in refused(simulated, "evaluate.baseline=distilled")


@pytest.mark.parametrize(
    "search", ["{nokey: {low: 1, high: 2}}", "{kd: {low: 2, high: 1}}", "{kd: {low: 0, high: 1, log: true}}"]
)
def test_a_search_that_cannot_be_is_refused_before_anything_runs(simulated, search):
    assert "sweep.search" in refused(simulated, f"sweep.search={search}")


def test_overrides_take_effect_and_the_last_one_wins(simulated):
    study = read_study(simulated, ["seed=3", "distill.optim.lr=0.5", "seed=4", "data.folder=/a=b", "name=other"])
    assert (study.seed, study.distill.optim.lr, study.data.folder, study.name) == (4, 0.5, "/a=b", "other")
    assert study.distill.optim.epochs == read_study(simulated).distill.optim.epochs


def test_an_override_replaces_a_dictionary_instead_of_adding_to_it(simulated):
    study = read_study(simulated, ["distill.teachers={}", "labels={stress: 2}", "predict.channels={}"])
    assert (study.distill.teachers, study.labels, study.predict.channels) == ({}, {"stress": 2.0}, {})


def test_changed_applies_dotted_changes_to_a_copy(simulated):
    section = read_study(simulated).distill
    other = changed(section, {"optim.lr": 1, "teachers": {"spatial": 2}, "width": 16}, "x")
    assert (other.optim.lr, other.teachers, other.width) == (1.0, {"spatial": 2.0}, 16)
    assert other.optim.epochs == section.optim.epochs
    assert section == read_study(simulated).distill
    assert changed(section, {}, "x") == section


@pytest.mark.parametrize(
    "changes",
    [
        {"nokey": 1},
        {"optim.nokey": 1},
        {"temperature": "hot"},
        {"temperature": -1},
        {"temperature.x": 1},
        {"": 1},
        {"a..b": 1},
        {"width": 16.5},
        {"modalities.7": "eda"},
        {"teachers": {"nobody": 1}},
        {"teachers": "${x}"},
    ],
    ids=str,
)
def test_changed_refuses_by_the_name_it_was_told(simulated, changes):
    with pytest.raises(MtkdError, match=r"^students\.x: "):
        changed(read_study(simulated).distill, changes, "students.x")


@given(
    st.dictionaries(
        st.sampled_from([*Simulation.model_fields, "x"]), st.none() | st.booleans() | st.floats() | st.text()
    )
)
def test_no_content_of_a_section_makes_anything_but_a_section_or_an_error(content):
    try:
        made = changed(Simulation(), content, "x")
    except MtkdError:
        return
    assert isinstance(made, Simulation)
    fingerprint(made.model_dump())


def test_a_file_or_a_change_nested_without_end_is_refused(simulated, tmp_path):
    """The loader of libyaml would end the process."""
    deep = tmp_path / "deep.yaml"
    deep.write_text("name: " + "[" * 100_000 + "]" * 100_000)
    for path, changes in ((deep, []), (simulated, ["name=" + "[" * 50_000 + "]" * 50_000])):
        with pytest.raises(
            MtkdError, match=f"^{path}: (not a readable YAML file|the value .*): nested deeper than 100 levels$"
        ):
            read_study(path, changes)


@pytest.mark.parametrize("key", ["workspace", "data.folder", "temporal.backbone", "predict.output"])
def test_a_nul_character_is_refused_by_its_key(simulated, key):
    with pytest.raises(MtkdError, match=rf"{key}: is empty or holds a NUL character"):
        read_study(simulated, [f'{key}="a\\0b"'])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("predict.output=''", "predict.output: is empty"),
        ("distill.modalities=[emg, emg]", "distill.modalities: names something twice"),
        ("classes=[a, b, b, c]", "classes: names something twice"),
        ("classes=[a, b, '', c]", "classes: names something twice, or nothing"),
        ("distill.teachers={temporal: 0.0, spatial: 0.0}", "distill: teachers have no weight"),
        ("distill={modalities: [emg], ce: 0.0, kd: 0.0, hint: 0.0}", "distill: neither ce nor"),
        ("evaluate.students={labels alone: {teachers: {}, ce: 0.0}, distilled: {}}", "labels alone: neither ce nor"),
        ("spatial.bands=[[1.05, 1.10]]", "spatial.bands: 1.05 to 1.1 Hz is narrower than 6 s can tell"),
        ("temporal.covariance_bands=[[1.05, 1.10]]", "temporal.covariance_bands: 1.05 to 1.1 Hz is narrower than 6 s"),
        (
            "temporal.covariance_bands=[[8., 70.]]",
            "temporal.covariance_bands: nothing lies from 8 to 70 Hz below 64 Hz",
        ),
        ("labels={joint: 5.0}", "labels: 'joint' is what all ratings together are called"),
        ("labels={' ': 5.0}", "labels: ' ' is no name of a rating"),
        ("workspace='  '", "workspace: is empty"),
        ("distill.ce=1e300", "distill.ce: "),
        ("distill.teachers={temporal: 1e300}", "distill.teachers.temporal: "),
        ("evaluate.students={labels alone: {teachers: {}, ce: 1.0}, distilled: {}, %s: {}}" % (120 * "x"), "is longer"),
        ('evaluate.students={labels alone: {teachers: {}, ce: 1.0}, distilled: {}, "a\\u202eb": {}}', "cannot be seen"),
        ("spatial={features: learned, filter_s: 7.0}", "spatial.filter_s = 7 s is longer than windows.window_s"),
        ("spatial.features=raw", "spatial.features: "),
        ("spatial.conv_options={K: {a: 1}}", "spatial.conv_options.K"),
        ("spatial.layers=1000000000000", "spatial.layers: "),
        ("spatial.sigma_m=1e200", "spatial.sigma_m: "),
        ("spatial.optim.lr=1e300", "spatial.optim.lr: "),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(simulated, override, said):
    with pytest.raises(MtkdError) as refused:
        read_study(simulated, [override])
    assert said in str(refused.value)
