"""Texts that try to become special tokens or bottleneck tokens, and what else breaks readers of text."""

from __future__ import annotations

import random

from tiny_models import TEXTS

from lbr_st.model.tokens import WHITESPACE, bottleneck_token

# What the tokenizers of these families have as special tokens, registered in each of ours.
SPECIALS = """
    <|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|box_start|> <|vision_start|> <|image_pad|>
    <tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
    <think> </think> <|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|>
    <|python_tag|> <|finetune_right_pad_id|> <|reserved_special_token_0|> <s> </s> <unk> [INST] [/INST] [TOOL_CALLS]
    [AVAILABLE_TOOLS] [TOOL_RESULTS] [IMG] [PREFIX] [MIDDLE] [SUFFIX] <pad> <bos> <eos> <mask> <unused0>
    <start_of_turn> <end_of_turn> <start_of_image> <|assistant|> <|system|> <|user|> <|end|> <|placeholder1|>
    <|padding|> |||IP_ADDRESS||| |||EMAIL_ADDRESS||| <|pad|> <|endofprompt|>
""".split()

SPELLED = [
    variant
    for token in map(bottleneck_token, range(3))
    for variant in [
        token,
        token.upper(),
        token[::-1],
        *(token.replace(" ", space) for space in [*WHITESPACE, "", "  ", "Ġ", "▁", "<0x20>", "\\u0020", "\u200b"]),
        *(token[:cut] for cut in (1, 2, 13, 14, -1)),
    ]
]

# Controls, marks and letters that change their length, order or number when they are normalised, cut or joined.
ODD = [
    " ", "\n", "\t", "\x00", "\x1b[0m", "\x7f", "\x85", "\u200b", "\u200d", "\u202e", "\u2028", "\ufeff", "\ufffd",
    "\uffff", "\U0010ffff", "\U000e0061", "\ufe0f", "\u0301", "e\u0301" * 5, "\u0334" * 40, "\u1100\u1161\u11a8",
    "\ufdfa", "\u338f", "\u0130", "\u1e9e", "\u00df", "\u03a3\u03c2", "\u05e9\u05dc\u05d5\u05dd", "\u0627\u0644\u0639",
    "\u0939\u093f\u0928", "\u6f22\u5b57", "\u3042\u30a2", "\u0e44\u0e17\u0e22", "\U0001f469\u200d\U0001f52c",
    "\U0001f1e9\U0001f1ea", "\u0120", "\u2581", "\u010a", "<0x0A>", "<0x00>", "<|", "|>", "<|bottleneck", "0|>",
    "a" * 300, "(" * 200, "0" * 64, "\\", '"', "{{", "%s", "&lt;s&gt;", "&#x3c;", "\r\n\r\n", " " * 50,
]  # fmt: skip
# First and last code points of the ranges that characters are drawn from; what lies between is drawn as often in each.
RANGES = [
    (0x00, 0x7F), (0x80, 0x24F), (0x300, 0x52F), (0x590, 0xDFF), (0xE00, 0x1FFF), (0x2000, 0x2BFF), (0x3000, 0x9FFF),
    (0xA000, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x3FFFF), (0xE0000, 0x10FFFF),
]  # fmt: skip


def hostile_text(rng: random.Random) -> str:
    """Draw a text of up to six pieces, none of them half a surrogate pair: that is no text."""
    return "".join(_piece(rng) for _ in range(rng.randint(0, 6)))


def _piece(rng: random.Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return "".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randint(0, 20)))
    if kind == 5:
        return _changed(rng, rng.choice([*SPECIALS, *SPELLED]))
    return rng.choice([SPECIALS, SPELLED, TEXTS, ODD][kind - 1])


def _changed(rng: random.Random, token: str) -> str:
    """Change a spelling in one place: a letter more, less or other, a full-width form, or a mark within."""
    if not token:
        return token
    place = rng.randrange(len(token))
    letter = token[place]
    wide = chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter
    other = rng.choice(["", letter * 2, letter.swapcase(), wide, letter + rng.choice(ODD)])
    return token[:place] + other + token[place + 1 :]
