"""The tokenizers of transformers.js append the bottleneck tokens, which no text spells; it runs the ONNX export."""

import json
import subprocess

import numpy as np
import pytest
from environments import INPUTS, environment
from helpers import FAMILIES

from lbr_st.use.export import export

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


EMBED = """
import fs from "node:fs";
import {AutoModel, AutoTokenizer, env} from "@huggingface/transformers";
const [folder, texts] = JSON.parse(fs.readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.localModelPath = "/";
const tokenizer = await AutoTokenizer.from_pretrained(folder);
const model = await AutoModel.from_pretrained(folder, {dtype: "fp32"});
const found = [];
for (const text of texts) {
  const {sentence_embedding} = await model(await tokenizer([text]));
  found.push(sentence_embedding.tolist()[0]);
}
process.stdout.write(JSON.stringify(found));
"""


def test_the_onnx_export_gives_the_same_vectors(saved, tmp_path):
    """Of texts that are not cut: transformers.js would cut the bottleneck tokens off."""
    folder, model = saved["qwen2"]
    exported = export(folder, "onnx", tmp_path / "export").folder
    texts = [text for text in ("", "a", "one", *INPUTS) if len(model.tokenizer(text)["input_ids"]) <= 24]
    assert len(texts) > 5
    found = subprocess.run(
        ["node", "--input-type=module", "-e", EMBED],
        cwd=environment("javascript"),
        input=json.dumps([str(exported), texts]),
        text=True,
        check=True,
        capture_output=True,
    )
    np.testing.assert_allclose(json.loads(found.stdout), model.encode(texts, batch_size=1), atol=1e-5)
