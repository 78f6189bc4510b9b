"""What the files of a saved model must say, for everyone who reads them: the rules, without loading the model.

The readers are sentence-transformers, vLLM (before and after it learned the pooling file of sentence-transformers 5.4),
text-embeddings-inference (TEI) and llama.cpp's converter. docs/studies/file_contract.md gives the source of each rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
import transformers
from huggingface_hub import hf_hub_download
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from lbr_st.errors import InputError
from lbr_st.files import file_sha256, read_json, sha256, write_json
from lbr_st.model.adapters import find_adapter
from lbr_st.model.bottleneck import BottleneckTransformer, check_nested, check_ratio
from lbr_st.model.exported import EXPORT, read_made
from lbr_st.model.gguf import gguf_file
from lbr_st.model.positions import most_positions
from lbr_st.model.term_matching import texts_of
from lbr_st.model.tokens import INPUT_NAMES, TOKENIZER_CLASS, bottleneck_token, refuse_spellable
from lbr_st.model.weights import read_tensors, refuse_pointers
from lbr_st.records import MANIFEST

LBR_CONFIG = "lbr_config.json"
REFERENCE = "lbr_reference.json"
POOLING_CONFIG = "1_Pooling/config.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
# Of a student of queries: the model whose vectors it gives to documents.
DOCUMENTS_OF = "documents_of.json"

# Files in a model directory that no loader reads.
NOT_LOADED = {"lbr_run.json", "training_log.json", "trainer_state.json", "verdict.json", REFERENCE, DOCUMENTS_OF}

# Files that transformers reads beside tokenizer.json, and changes with them what that one says.
BESIDE_THE_TOKENIZER = {
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.model", "vocab.json", "vocab.txt",
}  # fmt: skip

# Files whose fields somebody reads.
READ = [
    LBR_CONFIG, REFERENCE, POOLING_CONFIG, WEIGHTS_INDEX, "config.json", "config_sentence_transformers.json",
    "generation_config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
]  # fmt: skip

# The long-lived names: sentence-transformers 3 to 6 import them, vLLM and llama.cpp compare with exactly these.
PORTABLE_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
NATIVE_MODULE = "lbr_st.BottleneckTransformer"

# In this order: vLLM before 0.18 takes the first key that is true, whatever it is.
POOLING_MODES = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
LAST_TOKEN_POOLING = {f"pooling_mode_{mode}": mode == "lasttoken" for mode in POOLING_MODES} | {"include_prompt": True}


class VerificationError(InputError):
    """A saved model that does not keep its promises: the file or input, and what is wrong with it."""


def check_kind_of_json(name: str, found: Any) -> None:
    """Refuse a JSON file of a model that holds another kind of value than its readers take.

    Args:
        name: Its name below the directory of the model.
        found: What it holds.

    Raises:
        VerificationError: If it does.
    """
    if name == "modules.json":
        if not isinstance(found, list) or not all(isinstance(module, dict) for module in found):
            fail(name, "is not a list of modules")
    elif not isinstance(found, dict) and (name in READ or "/" in name):
        fail(name, f"is a {type(found).__name__}, not an object with fields")


def fail(where: str | Path, what: str) -> NoReturn:
    """Raise a `VerificationError` that names the file or input."""
    raise VerificationError(f"{where}: {what}")


class SavedFiles:
    """The JSON files of a saved model, of either layout, parsed. What they say is checked by `file_checks`.

    Args:
        path: Directory of the model.

    Raises:
        VerificationError: If there is no such directory, or a JSON file does not parse.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            fail(path, "it is a file; name its directory" if Path(path).is_file() else "no such directory")
        try:
            refuse_pointers(self.path)
        except InputError as error:
            raise VerificationError(str(error)) from error
        found = [*self.path.glob("*.json"), *self.path.glob("[0-9]_*/*.json")]
        self.json = {name: self._parse(name) for name in sorted(f.relative_to(self.path).as_posix() for f in found)}

    @property
    def is_portable(self) -> bool:
        """Whether it is in the portable layout: of stock classes alone."""
        return [module.get("type") for module in self["modules.json"][:1]] != [NATIVE_MODULE]

    @property
    def ids(self) -> list[int]:
        """Ids of the bottleneck tokens."""
        return self.field(LBR_CONFIG, "bottleneck_token_ids", list)

    @property
    def domain_ids(self) -> list[int]:
        """Ids of the tokens that terms have."""
        return self[LBR_CONFIG].get("domain_token_ids", [])

    @property
    def max_seq_length(self) -> int:
        """Longest input in tokens."""
        return self.field(LBR_CONFIG, "max_seq_length", int)

    @property
    def compression_ratio(self) -> float | None:
        """Tokens of text to a bottleneck token; None where every text has all of them."""
        return self[LBR_CONFIG].get("compression_ratio")

    @property
    def nested(self) -> bool:
        """Whether any first part of the bottleneck tokens is a bottleneck too."""
        return self[LBR_CONFIG].get("nested", False)

    def __getitem__(self, name: str) -> Any:
        if name not in self.json:
            fail(name, "missing")
        return self.json[name]

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration of the language model, as transformers reads it."""
        try:
            return AutoConfig.from_pretrained(self.path)
        except Exception as error:  # transformers validates fields with errors of many kinds
            fail("config.json", f"transformers cannot read it ({type(error).__name__}: {error})")

    def _parse(self, name: str) -> Any:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            fail(name, f"not UTF-8: {error}")
        except OSError as error:
            fail(name, f"cannot be read: {error.strerror}")
        except json.JSONDecodeError as error:
            fail(f"{name}, line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}")
        except (RecursionError, ValueError) as error:  # nested a thousand deep, or a number of thousands of digits
            fail(name, f"not JSON that anybody reads: {error}")
        check_kind_of_json(name, found)
        return found

    def field(self, name: str, key: str, kind: type) -> Any:
        """Return a field of a JSON file, which must be there and of this type."""
        found = self[name].get(key) if isinstance(self[name], dict) else None
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            fail(name, f"{key} is {found!r}, where {kind.__name__} is expected")
        return found


def check_files(path: str | Path) -> None:
    """Check the files of a saved model, without loading it.

    Raises:
        VerificationError: With the file and the reason, for the first rule that is broken.
    """
    for _ in file_checks(SavedFiles(path)):
        pass


def changed_files(files: SavedFiles, names: Collection[str] | None = None) -> list[str]:
    """Return the names of the files that are not those of when the model was saved, as far as is written down.

    Args:
        files: The saved model.
        names: Files that are looked at; default is all.
    """
    reference = files.json.get(REFERENCE)
    hashes = reference.get("sha256") if isinstance(reference, dict) else None
    if not isinstance(hashes, dict):
        return []
    paths = {name: files.path / name for name in hashes if names is None or name in names}
    return [name for name, path in paths.items() if not path.is_file() or file_sha256(path) != hashes[name]]


def file_checks(files: SavedFiles) -> Iterator[str]:
    """Check the files rule by rule, and say a line for each file that is right.

    Raises:
        VerificationError: With the file and the reason, for the first rule that is broken.
    """
    yield f"JSON files: {len(files.json)} parse"
    yield _check_lbr_config(files)
    yield _check_config(files)
    if files.is_portable:
        yield _check_modules(files)
        yield _check_pooling(files)
        yield _check_sentence_bert_config(files)
    else:
        yield "modules.json: native layout, for sentence-transformers with lbr-st installed and trust_remote_code=True"
    yield _check_sentence_transformers_config(files)
    yield _check_tokenizer_config(files)
    yield _check_tokenizer(files)
    yield _check_weights(files)


def _check_lbr_config(files: SavedFiles) -> str:
    if EXPORT in files.json:
        fail(EXPORT, "this is an export, whose weights are for another runtime; verify the model that it was made from")
    if LBR_CONFIG not in files.json:
        _fail_without_config(files)
    unknown = sorted(files[LBR_CONFIG].keys() - set(BottleneckTransformer.config_keys))
    if unknown:
        fail(LBR_CONFIG, f"has {', '.join(unknown)}, which this version of lbr_st does not know")
    ids = files.ids
    if not ids or not all(isinstance(id_, int) and id_ >= 0 for id_ in ids) or len({*ids}) < len(ids):
        fail(LBR_CONFIG, f"bottleneck_token_ids are {ids}, not different token ids")
    _check_domain_ids(ids, files.domain_ids)
    if not all(isinstance(step, dict) and "stage" in step for step in files.field(LBR_CONFIG, "history", list)):
        fail(LBR_CONFIG, "history is no list of stages")
    ratio = files.compression_ratio
    if ratio is not None:
        try:
            check_ratio(ratio)
        except (InputError, TypeError):
            fail(LBR_CONFIG, f"compression_ratio is {ratio!r}, not null or a number above 0")
        if files.is_portable:
            fail(LBR_CONFIG, "has a compression_ratio, which the portable layout cannot keep to")
    _check_nested(files)
    return f"{LBR_CONFIG}: {len(ids)} bottleneck token(s), texts of up to {files.max_seq_length} tokens"


def _fail_without_config(files: SavedFiles) -> None:
    """Say what a directory is that was not saved by this package.

    Raises:
        VerificationError: Always.
    """
    if "router_config.json" in files.json:
        fail("router_config.json", "a model of two encoders is not verified; verify the model that it was made of")
    if (files.path / MANIFEST).is_file():
        fail(MANIFEST, "these are vectors of lbr encode, no model; verify the model that they were encoded with")
    if (files.path / "model" / LBR_CONFIG).is_file():
        fail(LBR_CONFIG, f"missing; the model is in {files.path / 'model'}")
    fail(LBR_CONFIG, "missing, so it was not saved by lbr_st; lbr_st.from_backbone starts from any language model")


def _check_nested(files: SavedFiles) -> None:
    if not isinstance(files.nested, bool):
        fail(LBR_CONFIG, f"nested is {files.nested!r}, not true or false")
    try:
        check_nested(files.nested, len(files.ids), files.compression_ratio)
    except InputError as error:
        fail(LBR_CONFIG, f"nested is true: {error}")


def _check_domain_ids(ids: list[int], domain: Any) -> None:
    if not isinstance(domain, list) or not all(isinstance(id_, int) and id_ >= 0 for id_ in domain):
        fail(LBR_CONFIG, "domain_token_ids are no list of token ids")
    if len({*ids, *domain}) < len(ids) + len(domain):
        fail(LBR_CONFIG, "domain_token_ids has a token twice, or a bottleneck token")


def _check_modules(files: SavedFiles) -> str:
    found = files["modules.json"]
    for module in PORTABLE_MODULES:
        if module not in [{key: m.get(key) for key in module} for m in found]:
            fail("modules.json", f"has no module {module}")
    if len(found) != len(PORTABLE_MODULES):
        fail("modules.json", f"has {len(found)} modules, not {len(PORTABLE_MODULES)}")
    return "modules.json: the names that sentence-transformers 3 to 6, vLLM and llama.cpp know"


def _check_pooling(files: SavedFiles) -> str:
    config = files[POOLING_CONFIG]
    for key, expected in LAST_TOKEN_POOLING.items():
        if config.get(key) is not expected:
            fail(POOLING_CONFIG, f"{key} is {config.get(key)!r}, not {expected}")
    first_true = next(key for key, value in config.items() if value is True)
    if first_true != "pooling_mode_lasttoken":
        fail(POOLING_CONFIG, f"{first_true} comes before pooling_mode_lasttoken; vLLM before 0.18 takes the first")
    unknown = sorted(config.keys() - LAST_TOKEN_POOLING.keys() - {"word_embedding_dimension"})
    if unknown:
        fail(POOLING_CONFIG, f"has {', '.join(unknown)}, which sentence-transformers 3 refuses")
    width = files.config.get_text_config().hidden_size
    dimension = files.field(POOLING_CONFIG, "word_embedding_dimension", int)
    if dimension != width:
        fail(POOLING_CONFIG, f"word_embedding_dimension is {dimension}, config.json has {width}")
    return "1_Pooling: last token, in the form that sentence-transformers 3, vLLM, TEI and llama.cpp read"


def _check_sentence_bert_config(files: SavedFiles) -> str:
    name = "sentence_bert_config.json"
    length = files.field(name, "max_seq_length", int)
    if files.field(name, "do_lower_case", bool):
        fail(name, "do_lower_case is true")
    if length != files.max_seq_length:
        fail(name, f"max_seq_length is {length}, {LBR_CONFIG} has {files.max_seq_length}")
    return f"{name}: {length} tokens at most; TEI needs the one key, vLLM both"


def _check_sentence_transformers_config(files: SavedFiles) -> str:
    name = "config_sentence_transformers.json"
    prompts = files.field(name, "prompts", dict)
    for prompt_name, prompt in prompts.items():
        if not isinstance(prompt, str):
            fail(name, f"the prompt {prompt_name!r} is {prompt!r}, where a text is expected")
    default = files[name].get("default_prompt_name")
    if default is not None and default not in [*prompts]:
        fail(name, f"default_prompt_name is {default!r}, which is no prompt")
    if files[name].get("similarity_fn_name") != "cosine":
        fail(name, f"similarity_fn_name is {files[name].get('similarity_fn_name')!r}, not 'cosine'")
    return f"{name}: prompts {', '.join(sorted(prompts)) or 'none'}, cosine"


def _check_config(files: SavedFiles) -> str:
    name = "config.json"
    config = files[name]
    architectures = files.field(name, "architectures", list)
    if len(architectures) != 1 or not hasattr(transformers, str(architectures[0])):
        fail(name, f"architectures are {architectures}, not one class of transformers")
    if "auto_map" in config:
        fail(name, "has an auto_map: its code would be needed to load it")
    if "quantization_config" in config:
        fail(name, "has a quantization_config: weights must be whole")
    if files.max_seq_length > most_positions(files.config):  # transformers must be able to read it, too
        fail(name, f"has {most_positions(files.config):.0f} positions, {LBR_CONFIG} texts of {files.max_seq_length}")
    vocab_size = files.field(name, "vocab_size", int)
    if max(files.ids) >= vocab_size:
        fail(name, f"vocab_size is {vocab_size}, but the bottleneck token ids of {LBR_CONFIG} are {files.ids}")
    if max(files.domain_ids, default=0) >= vocab_size:
        fail(name, f"vocab_size is {vocab_size}, but {LBR_CONFIG} has the domain token {max(files.domain_ids)}")
    if files.is_portable:
        if config.get("is_causal") is not True:
            fail(name, f"is_causal is {config.get('is_causal')!r}, not True; vLLM reads false as bidirectional")
        files.field(name, "pad_token_id", int)  # TEI refuses null
        rope = config.get("rope_parameters") or {}
        if "rope_theta" in rope and config.get("rope_theta") != rope["rope_theta"]:
            fail(name, f"rope_theta is {config.get('rope_theta')!r}, in rope_parameters {rope['rope_theta']!r}")
    return f"{name}: {architectures[0]}, {vocab_size} token ids"


def _check_tokenizer_config(files: SavedFiles) -> str:
    name = "tokenizer_config.json"
    config = files[name]
    found = config.get("tokenizer_class")
    if found != TOKENIZER_CLASS:
        fail(
            name, f"tokenizer_class is {found!r}; any other than {TOKENIZER_CLASS} may rebuild what tokenizer.json says"
        )
    if config.get("model_input_names") != INPUT_NAMES:
        fail(name, f"model_input_names are {config.get('model_input_names')}, not {INPUT_NAMES}")
    for order in ("add_bos_token", "add_eos_token"):
        if order in config:
            fail(name, f"has {order}; the template in tokenizer.json is what counts")
    if files.field(name, "model_max_length", int) != files.max_seq_length:
        fail(name, f"model_max_length is {config['model_max_length']}, {LBR_CONFIG} has {files.max_seq_length}")
    pad = config.get("pad_token")
    if not isinstance(pad, str) or pad in map(bottleneck_token, range(len(files.ids))):
        fail(name, f"pad_token is {pad!r}; it must be a token, and none of the bottleneck tokens")
    return f"{name}: padded with {pad!r}"


def _check_tokenizer(files: SavedFiles) -> str:
    name = "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_str(json.dumps(files[name]))
        _check_appended(files, name)
        refuse_spellable(tokenizer, [bottleneck_token(index) for index in range(len(files.ids))])
        _check_domain_tokens(files, tokenizer, name)
    except VerificationError:
        raise
    except InputError as error:
        fail(name, str(error))
    except Exception as error:  # a tokenizer.json of any other shape than the one written
        fail(name, f"not a tokenizer that appends bottleneck tokens ({type(error).__name__}: {error})")
    highest, vocab_size = max(tokenizer.get_vocab().values()), files["config.json"]["vocab_size"]
    if highest >= vocab_size:
        fail(name, f"has a token id {highest}, config.json a vocab_size of {vocab_size}")
    of_terms = f", and has {len(files.domain_ids)} tokens of terms" if files.domain_ids else ""
    return f"{name}: appends ids {files.ids}, which no text can spell{of_terms}"


def _check_appended(files: SavedFiles, name: str) -> None:
    """Check that vocabulary and template have the bottleneck tokens, with their ids, at the end of every text."""
    data = files[name]
    for index, expected in enumerate(files.ids):
        found = data["model"]["vocab"].get(bottleneck_token(index))
        if found != expected:
            fail(name, f"{bottleneck_token(index)!r} has id {found}, {LBR_CONFIG} has {expected}")
    parts = data["post_processor"].get("processors", [data["post_processor"]])
    templates = [part for part in parts if part["type"] == "TemplateProcessing"]
    if not templates:
        fail(name, "has no template: nothing appends the bottleneck tokens")
    for kind in ("single", "pair"):
        pieces = templates[-1][kind][-len(files.ids) :]
        tokens = [piece["SpecialToken"]["id"] for piece in pieces if "SpecialToken" in piece]
        ids = [id_ for token in tokens for id_ in templates[-1]["special_tokens"][token]["ids"]]
        if ids != files.ids:
            fail(name, f"its template for a {kind} text ends with ids {ids}, not with {files.ids}")
        before = templates[-1][kind][-len(files.ids) - 1]
        if "Sequence" not in before:
            fail(name, f"its template for a {kind} text has {before} between the text and the bottleneck tokens")


def _check_domain_tokens(files: SavedFiles, tokenizer: Tokenizer, name: str) -> None:
    """Check that a term becomes its token, at the start of a text, between others and in brackets."""
    texts = texts_of(files[name]) if files.domain_ids else {}
    for id_ in files.domain_ids:
        if id_ not in texts:
            fail(name, f"has no entry of id {id_}, which is a domain token of {LBR_CONFIG}")
        term = texts[id_].strip(" ")
        if id_ not in tokenizer.encode(f"({term}) {term}", add_special_tokens=False).ids:
            fail(name, f"does not make token {id_} of the term {term!r}")


def _check_weights(files: SavedFiles) -> str:
    foreign = foreign_weights(files.path)
    if foreign:
        fail(
            foreign[0].name,
            "weights must be whole and in model*.safetensors: no pickle, no adapter, nothing beside them",
        )
    weight_map = {}
    if WEIGHTS_INDEX in files.json:
        weight_map = files.field(WEIGHTS_INDEX, "weight_map", dict)
    names = sorted(set(weight_map.values())) or ["model.safetensors"]
    stray = sorted({file.name for file in files.path.glob("*.safetensors")} - {*names})
    if stray:
        fail(stray[0], "belongs to no model here; servers read every safetensors file")
    shapes = {key: shape for name in names for key, shape in _shapes(files.path / name).items()}
    absent = sorted(weight_map.keys() - shapes.keys())
    if absent:
        fail(WEIGHTS_INDEX, f"names {absent[0]}, which no file has")
    embedding, rows = _embedding_name(files), files["config.json"]["vocab_size"]
    if embedding not in shapes:
        fail(names[0], f"has no {embedding}, which is the embeddings of the model")
    if shapes[embedding][0] != rows:
        fail(names[0], f"{embedding} has shape {shapes[embedding]}, config.json a vocab_size of {rows}")
    return f"weights: {len(shapes)} tensors in {len(names)} file(s), embeddings for {rows} token ids"


def foreign_weights(path: Path) -> list[Path]:
    """Return files of a directory that some reader would load beside or in place of ``model*.safetensors``."""
    found = [*path.glob("pytorch_model*.bin"), *path.glob("adapter_*"), *path.glob("*.safetensors")]
    return sorted(file for file in found if not file.match("model*.safetensors"))


def fingerprint(path: str | Path) -> str:
    """Return a hash of the files that a model is loaded from, as 64 hex digits.

    Args:
        path: Any model directory, a GGUF file, or an adapter, whose base counts too where it is on this machine; of the
            folder of an export, the model that it was made from.
    """
    if (file := gguf_file(path)) is not None:
        return sha256([file])
    if (made := read_made(path)) is not None:
        return made.model_sha256
    found = sha256(loaded_files(path))
    if Path(path, ADAPTER_CONFIG_NAME).is_file() and not Path(path, "modules.json").is_file():
        adapter = find_adapter(str(path))
        if adapter is not None and adapter.base != str(path) and Path(adapter.base).exists():
            return hashlib.sha256((found + fingerprint(adapter.base)).encode()).hexdigest()
    return found


def revision_of(model: str) -> str | None:
    """Return what tells the weights of a model from those that it has later.

    Args:
        model: Directory or file, whose `fingerprint` it is; or id on the Hub, whose commit it is, of the files that are
            opened now. None where the Hub is not reached and they are not here.
    """
    if Path(model).exists():
        return fingerprint(model)
    try:
        return Path(hf_hub_download(model, "config.json")).parent.name
    except (OSError, ValueError):  # whoever opens it says why
        return None


def keep_documents_of(path: str | Path, model: str) -> None:
    """Note in a directory that it gives the document vectors of another model, as long as its files are these."""
    about = {"model": model, "model_sha256": revision_of(model)}
    write_json(Path(path, DOCUMENTS_OF), about | {"files_sha256": fingerprint(path)})


def encoders_of_documents(model: str) -> list[tuple[str | None, str]]:
    """Return the models that give documents the vectors that this one does: `revision_of` and name of each.

    Args:
        model: Directory of a model, or its id on the Hub.
    """
    found = [(revision_of(model), model)]
    file = Path(model, DOCUMENTS_OF)
    if file.is_file() and (about := read_json(file)).get("files_sha256") == found[0][0]:
        found.append((about["model_sha256"], about["model"]))
    return found


def loaded_files(path: str | Path) -> list[Path]:
    """Return the files of a model directory that some loader reads, in order."""
    kinds = {".safetensors", ".json", ".bin", ".txt", ".model"}
    files = [file for file in [*Path(path).glob("*"), *Path(path).glob("*[0-9]_*/*")] if file.suffix in kinds]
    return sorted(file for file in files if file.name not in NOT_LOADED)


def _shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor of a safetensors file, which is whole."""
    try:
        return {key: each.shape for key, each in read_tensors(path).items()}
    except InputError as error:
        raise VerificationError(str(error)) from error


def _embedding_name(files: SavedFiles) -> str:
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(files.config)
    except Exception as error:  # a value that the class of the model does not know, such as a kind of positions
        fail("config.json", f"transformers makes no model of it ({type(error).__name__}: {error})")
    weight = model.get_input_embeddings().weight
    return next(name for name, parameter in model.named_parameters() if parameter is weight)
