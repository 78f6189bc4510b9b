"""The command `lbr serve`: its flags are the settings, and it says where it answers."""

from dataclasses import fields
from types import SimpleNamespace

import pytest

from lbr_st.cli import serve as command
from lbr_st.cli.serve import main
from lbr_st.errors import InputError
from lbr_st.serving.config import ServeConfig

COMPUTING = "--runtime torch --dtype bfloat16 --dimensions 6"


@pytest.fixture
def called(monkeypatch):
    """The settings that a command line means; what it says is said."""
    configs = []

    def serve(config, on_ready):
        configs.append(config)
        index = None if config.data is None else range(1234)
        on_ready(SimpleNamespace(service=SimpleNamespace(index=index)), "http://127.0.0.1:8000")

    monkeypatch.setattr(command, "serve", serve)
    monkeypatch.delenv("LBR_API_KEY", raising=False)
    return configs


def test_flags_are_settings(called, capsys, monkeypatch):
    main(["--model", "m"])
    assert called.pop() == ServeConfig(model="m")
    assert capsys.readouterr().out == (
        "Serving m on http://127.0.0.1:8000. Ctrl-C stops it.\nnext: curl http://127.0.0.1:8000/v1/embeddings -d "
        """'{"model": "m", "input": "your text"}'\n"""
    )
    flags = "--model m --data d --compare c --on-error skip --name n --host :: --port 0 --api-key k --batch-tokens 1 "
    main([*flags.split(), *"--max-body-mib 2 --max-texts 3 --max-tokens 4 --max-queue 5".split(), *COMPUTING.split()])
    assert called.pop() == ServeConfig(
        model="m", data="d", compare="c", on_error="skip", name="n", host="::", port=0, api_key="k", batch_tokens=1,
        max_body_mib=2, max_texts=3, max_tokens=4, max_queue=5, runtime="torch", dtype="bfloat16", dimensions=6,
    )  # fmt: skip
    assert capsys.readouterr().out == (
        "Serving n on http://127.0.0.1:8000, searching 1,234 passages. Ctrl-C stops it.\nnext: open "
        "http://127.0.0.1:8000, or curl -H 'Authorization: Bearer KEY' 'http://127.0.0.1:8000/search?q=your+question"
        "&k=3'\n"
    )
    monkeypatch.setenv("LBR_API_KEY", "secret")
    main(["--model", "m", "--host", "0.0.0.0"])
    assert called.pop().api_key == "secret"
    main(["--model", "m", "--host", "0.0.0.0", "--no-auth"])
    assert called.pop().api_key is None
    monkeypatch.setenv("LBR_API_KEY", " \n")
    with pytest.raises(InputError, match="^LBR_API_KEY in the environment is white space alone: set it anew"):
        main(["--model", "m"])


def test_every_setting_has_a_flag(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for field in fields(ServeConfig):
        assert f"--{field.name.replace('_', '-')}" in printed
    assert "(default: 8000)" in printed and "(default: None)" not in printed and "(default: False)" not in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "lbr serve: the following arguments are required: --model"),
        (["--model", "m", "--port", "web"], "lbr serve: argument --port: invalid int value: 'web'"),
        (["--model", "m", "--max-queue", "0"], "lbr serve: argument --max-queue: must be a whole number from 1 to"),
        (["--model", "m", "--dtype", "auto"], "lbr serve: argument --dtype: invalid choice: 'auto'"),
        (["--model", "m", "--host", "0.0.0.0"], "--host 0.0.0.0 is open to other machines"),
    ],
)
def test_refusals(called, flags, message):
    with pytest.raises(InputError) as error:
        main(flags)
    assert str(error.value).startswith(message) and not called
