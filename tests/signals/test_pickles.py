"""Pickles: what would run code, take the memory or spoil the sentence is refused, and nothing of it happens."""

import io
import pickle
import pickletools
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.signals.readers.pickles import _instructions, load_arrays
from mtkd.signals.simulated import dump_as_python2


def refused(content: bytes) -> str:
    with pytest.raises(MtkdError) as caught:
        load_arrays(content, "s07.dat")
    sentence = str(caught.value)
    assert sentence.startswith("s07.dat: ")
    assert "\n" not in sentence
    return sentence


def arrays() -> dict[str, np.ndarray]:
    return {"data": np.zeros((1, 40, 3)), "labels": np.ones((1, 4))}


@pytest.mark.parametrize("signal", ["ran", "mine\x1b[2J\nmore"])
def test_a_name_in_a_pickle_cannot_spoil_the_sentence(tmp_path, signal):
    sentence = refused(b"\x80\x04\x8c" + bytes([len(signal)]) + signal.encode() + b"\x8c\x01x\x93.")
    assert "\x1b" not in sentence


class Call:
    """Pickles as a call of a function by name."""

    def __init__(self, module: str, name: str, *args: object) -> None:
        self.module, self.name, self.args = module, name, args

    def bytes(self, protocol: int) -> bytes:
        args = pickle.dumps(tuple(self.args), protocol)[2 if protocol >= 2 else 0 : -1]
        if protocol == 4:
            args = pickle._dumps(tuple(self.args), 3)[2:-1]
            return b"\x80\x04" + _unicode(self.module) + _unicode(self.name) + b"\x93" + args + b"R."
        return pickle.PROTO + bytes([2]) + f"c{self.module}\n{self.name}\n".encode() + args + b"R."


def _unicode(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


RUN = "__import__('pathlib').Path({marker!r}).write_text('')"
GADGETS = [
    ("os", "system", "touch {marker}"),
    ("posix", "system", "touch {marker}"),
    ("nt", "system", "touch {marker}"),
    ("builtins", "eval", RUN),
    ("__builtin__", "eval", RUN),
    ("builtins", "exec", RUN),
    ("__builtin__", "execfile", "{marker}"),
    ("builtins", "open", "{marker}", "w"),
    ("io", "open", "{marker}", "w"),
    ("builtins", "getattr", "{marker}", "x"),
    ("builtins", "__import__", "antigravity"),
    ("subprocess", "check_output", "touch {marker}"),
    ("pickle", "loads", "cos\nsystem\n(S'touch {marker}'\ntR."),
    ("_pickle", "loads", "cos\nsystem\n(S'touch {marker}'\ntR."),
    ("numpy", "load", "{marker}"),
    ("numpy", "fromfile", "{marker}"),
    ("numpy", "memmap", "{marker}", "u1", "w+", 0, (3,)),
    ("numpy", "save", "{marker}", 3),
    ("numpy.lib.npyio", "load", "{marker}"),
    ("numpy.testing._private.utils", "runstring", RUN, {}),
    ("numpy.f2py.diagnose", "run_command", "touch {marker}"),
    ("numpy.distutils.exec_command", "exec_command", "touch {marker}"),
    ("numpy", "ndarray.tofile", "{marker}"),
    ("numpy", "dtype.__class__", "x"),
    ("numpy.core.multiarray", "_reconstruct.__self__", "x"),
    ("numpy._core.multiarray", "fromfile", "{marker}"),
    ("_codecs", "lookup", "x"),
    ("codecs", "open", "{marker}", "w"),
    ("importlib", "import_module", "antigravity"),
    ("joblib.numpy_pickle", "load", "{marker}"),
    ("torch", "load", "{marker}"),
    ("mtkd.files", "write_json", "{marker}", 3),
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("gadget", GADGETS, ids=lambda gadget: ".".join(gadget[:2]))
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, gadget, protocol):
    marker = tmp_path / "ran"
    args = [part.format(marker=str(marker)) if isinstance(part, str) else part for part in gadget[2:]]
    sentence = refused(Call(*gadget[:2], *args).bytes(protocol))
    assert ".".join(gadget[:2]) in sentence
    assert not marker.exists()


class Reduced:
    """What ``pickle`` itself makes of an object that names a function and its arguments."""

    def __init__(self, call: object, *args: object) -> None:
        self.reduced = (call, args)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "hide",
    [
        lambda bad: bad,
        lambda bad: [bad],
        lambda bad: {"data": bad, "labels": arrays()["labels"]},
        lambda bad: arrays() | {"more": {"deep": [(bad,)]}},
        lambda bad: arrays() | {"data": np.array([[bad, 1], [2, 3]], object)},
        lambda bad: arrays() | {"labels": Reduced(np.ndarray, (2,), "f8", bad)},
        lambda bad: Reduced(np.dtype, bad),
    ],
    ids=["itself", "list", "value", "deep", "object array", "argument", "dtype"],
)
def test_a_hidden_call_is_refused_and_does_not_run(tmp_path, hide, protocol):
    marker = tmp_path / "ran"
    content = pickle.dumps(hide(Reduced(Path.touch, marker)), protocol)
    assert marker.name.encode() in content
    refused(content)
    assert not marker.exists()


def test_the_planted_calls_would_have_run(tmp_path):
    """The tests above can fail: the same bytes run under Python's own unpickler."""
    pickle.loads(pickle.dumps(Reduced(Path.touch, tmp_path / "ran")))
    pickle.loads(Call("builtins", "eval", RUN.format(marker=str(tmp_path / "ran too"))).bytes(4))
    pickle.loads(Call("posix", "system", f"touch {tmp_path / 'and-ran'}").bytes(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["and-ran", "ran", "ran too"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x02K\x01Q.",  # persistent id
        b"P1\n.",
        b"\x80\x02}\x8a\xff",
    ],
)
def test_other_opcodes_give_no_recording(tmp_path, content):
    refused(content)


def _crafted_dtype(flags: int) -> bytes:
    """An array of two objects at made-up addresses, with flags of its dtype that need not say so."""

    def text(word: str) -> bytes:
        return b"U" + bytes([len(word)]) + word.encode()

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    def dtype(code: str) -> bytes:
        return b"cnumpy\ndtype\n" + text(code) + number(0) + number(1) + b"\x87R"

    objects = dtype("O8") + b"(" + number(3) + text("|") + b"NNN" + number(-1) * 2 + number(63) + b"tb"
    fields = b"}" + text("a") + objects + number(0) + b"\x86s"
    record = dtype("V8") + b"(" + number(3) + text("|") + b"N" + text("a") + b"\x85" + fields
    record += number(8) + number(1) + number(flags) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + number(0) + b"\x85" + text("b") + b"\x87R"
    state = b"(" + number(1) + number(2) + b"\x85" + record + b"\x89U\x10" + b"A" * 16 + b"tb"
    return b"\x80\x02}" + text("data") + array + state + b"s."


@pytest.mark.parametrize("flags", [0, 1, 8, 9, 63])
def test_a_dtype_that_lies_about_its_objects_is_refused_and_frees_no_made_up_address(tmp_path, flags):
    """NumPy believes a pickled dtype's flags: with these it follows addresses that stand in the file."""
    path = tmp_path / "s01.dat"
    path.write_bytes(_crafted_dtype(flags))
    code = (
        "import sys\nfrom mtkd.signals.readers.pickles import load_arrays\n"
        "try: load_arrays(open(sys.argv[1], 'rb').read(), 'x')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "MtkdError", "")


def test_a_string_that_is_unpacked_again_and_again_is_refused():
    """A memoised string of a megabyte, encoded a hundred times, would come to a hundred."""
    text = b"X" + struct.pack("<i", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    call = b"c_codecs\nencode\nh\x00\x85R"  # encode(memo 0)
    for repeated in (
        call,
        b"cnumpy\nndarray\n)R(K\x01J\x00\x00\x10\x00\x85cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR\x89h\x00tb",
    ):
        content = b"\x80\x02}" + text + b"(" + repeated * 100 + b"ls."
        assert "more than its own size" in refused(content)


def test_a_file_of_a_few_bytes_does_not_take_the_memory(tmp_path):
    """A memo index of 2**27 makes Python's unpickler allocate gigabytes."""
    path = tmp_path / "s01.dat"
    path.write_bytes(b"\x80\x02}r" + (2**27).to_bytes(4, "little") + b".")
    code = (
        "import resource, sys\nfrom mtkd.signals.readers.pickles import load_arrays\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\nbefore = most()\n"
        "try: load_arrays(open(sys.argv[1], 'rb').read(), 'x')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(most() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    kind, megabytes = done.stdout.split()
    assert kind == "MtkdError"
    assert int(megabytes) < 200


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_give_no_array(content):
    try:
        found = load_arrays(content, "x")  # "}." is a whole pickle, of an empty dictionary
    except MtkdError as error:
        found = {"said": str(error)}
    assert not any(isinstance(value, np.ndarray) for value in found.values())
    assert found.get("said", "x: ").startswith("x: ")


EXAMPLES = [
    pickle.dumps(arrays() | {"more": ["a", 1, 2**70, None, b"b", {1, 2}, (3.5,)]}, protocol) for protocol in range(6)
]


@settings(max_examples=500)
@given(st.sampled_from(EXAMPLES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3))
def test_the_instructions_are_those_that_python_finds(example, changes):
    content = bytearray(example)
    for place, value in changes:
        content[place % len(content)] = value
    try:
        expected = [(opcode.name, at) for opcode, _, at in pickletools.genops(bytes(content))][:-1]
    except (ValueError, SyntaxError, UnicodeDecodeError):  # what Python refuses may be passed over here
        return
    assert [(name, at) for name, at, _, _ in _instructions(memoryview(content))] == expected


@pytest.mark.parametrize("protocol", range(6))
def test_large_arrays_are_read_where_they_lie(protocol):
    large = {"data": np.random.default_rng(0).standard_normal((2, 40, 300)), "labels": np.ones((2, 4))}
    content = pickle.dumps(large, protocol)
    found = load_arrays(content, "x")
    assert all(np.array_equal(found[name], array) for name, array in large.items())
    assert not found["data"].flags.writeable
    as_python_2 = io.BytesIO()
    dump_as_python2(large, as_python_2)
    there = np.frombuffer(as_python_2.getvalue(), np.uint8)
    assert np.shares_memory(load_arrays(memoryview(there), "x")["data"], there)


def test_millions_of_instructions_are_refused_at_once():
    """Tuples in tuples overflow the stack when they are a key, lists in lists take minutes and gigabytes."""
    for content in (b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s.", b"\x80\x02" + b"]" * 10**7 + b"."):
        started = time.process_time()
        assert "it holds more than 10000 instructions" in refused(content)
        assert time.process_time() - started < 5


@pytest.mark.parametrize("twice", [lambda i: b"h" + bytes([i]) + b"h" + bytes([i]), lambda i: b"h" + bytes([i]) + b"2"])
def test_a_tuple_of_one_tuple_twice_and_again_is_refused(twice):
    """Of 60 such pairs, the hash would take for ever."""
    pairs = b"".join(twice(i) + b"\x86q" + bytes([i + 1]) for i in range(60))
    assert "a tuple more than once" in refused(b"\x80\x02)q\x00" + pairs + b"}h\x3cK\x01s.")


def test_a_large_array_inside_a_frame_is_read():
    found = load_arrays(pickle.dumps({"x": np.arange(65534, dtype=np.uint8)}, 4), "x")
    np.testing.assert_array_equal(found["x"], np.arange(65534, dtype=np.uint8))
    framed = pickle._dumps({"x": np.zeros(70000, np.uint8)}, 3)[2:]
    content = b"\x80\x04\x95" + len(framed).to_bytes(8, "little") + framed
    np.testing.assert_array_equal(load_arrays(content, "x")["x"], np.zeros(70000, np.uint8))


def test_a_pickle_leaves_no_mark_on_what_it_calls():
    for call in (b"c_codecs\nencode\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"):
        refused(b"\x80\x02" + call + b"}U\x01xK\x01sb.")
        assert load_arrays(pickle.dumps(arrays(), 2), "x").keys() == {"data", "labels"}
