"""Pieces of texts that try to become special tokens or bottleneck tokens."""

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
