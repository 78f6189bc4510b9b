"""The tokenizers of transformers.js append the bottleneck tokens, which no text spells; it runs the ONNX export."""

import json
import subprocess

import numpy as np
import pytest
from environments import INPUTS, TERMS, TEXTS_WITH_TERMS, environment
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


def ids_in_javascript(folders, texts):
    """Return the ids of each text by the tokenizer of each folder."""
    found = subprocess.run(
        ["node", "--input-type=module", "-e", READ],
        cwd=environment("javascript"),
        input=json.dumps([[*map(str, folders)], texts]),
        text=True,
        check=True,
        capture_output=True,
    )
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def read(saved):
    return dict(zip(saved, ids_in_javascript([folder for folder, _ in saved.values()], INPUTS), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_ids(read, saved, family):
    tokenizer = saved[family][1].tokenizer
    assert read[family] == [tokenizer(text)["input_ids"] for text in INPUTS]
    ids = saved[family][1][0].bottleneck_token_ids
    for row in read[family]:
        assert row[-2:] == ids
        assert not set(row[:-2]) & set(ids)


def test_the_same_terms(with_terms):
    """Terms are whole words there too; that reader would match an added token inside other words."""
    found = ids_in_javascript([folder for folder, _ in with_terms.values()], [*INPUTS, *TEXTS_WITH_TERMS])
    for (_, model), rows in zip(with_terms.values(), found, strict=True):
        assert rows == [model.tokenizer(text)["input_ids"] for text in [*INPUTS, *TEXTS_WITH_TERMS]]
        whole, inside = (rows[[*INPUTS, *TEXTS_WITH_TERMS].index(text)] for text in (f"a {TERMS[0]} b", f"x{TERMS[0]}"))
        assert set(whole) & set(model[0].domain_token_ids) and not set(inside) & set(model[0].domain_token_ids)


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
