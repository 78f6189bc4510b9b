"""The JavaScript tokenizers of transformers.js append the bottleneck tokens, and no text spells them there."""

import json
import subprocess

import pytest
from environments import INPUTS, environment
from helpers import FAMILIES

READ = """
import fs from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";
const [folders, texts] = JSON.parse(fs.readFileSync(0, "utf8"));
const read = (file) => JSON.parse(fs.readFileSync(file, "utf8"));
const found = folders.map((folder) => {
  const tokenizer = new Tokenizer(read(`${folder}/tokenizer.json`), read(`${folder}/tokenizer_config.json`));
  return texts.map((text) => tokenizer.encode(text).ids);
});
console.log(JSON.stringify(found));
"""

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def read(saved):
    folders = [str(folder) for folder, _ in saved.values()]
    command = ["node", "--input-type=module", "-e", READ]
    found = subprocess.run(
        command,
        cwd=environment("javascript"),
        input=json.dumps([folders, INPUTS]),
        text=True,
        check=True,
        capture_output=True,
    )
    return dict(zip(saved, json.loads(found.stdout), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_ids(read, saved, family):
    tokenizer = saved[family][1].tokenizer
    assert read[family] == [tokenizer(text)["input_ids"] for text in INPUTS]
    ids = saved[family][1][0].bottleneck_token_ids
    for row in read[family]:
        assert row[-2:] == ids
        assert not set(row[:-2]) & set(ids)
