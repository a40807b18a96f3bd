"""Where a prompt is cut when it is run in chunks. The hot path has the same function; golden files hold test vectors.

ONNX Runtime's attention works in tiles of 2 * head_dim rows (fewer where a core's L2 cache is under 256 KiB), and a
tile of one row takes another path, whose last bits differ. On arm64 it multiplies four rows at once, and what is left
over two and one at a time, again with other last bits. In the layers after it the rounding of activations to 8 bits
makes a visible difference of that. So a chunk is no longer than a tile and, but for a prompt of one token, no shorter
than two tokens, and all chunks but the last are multiples of four. Then a prompt gives the same numbers, bit for bit,
in chunks of any such size, and what was computed of its beginning can serve another prompt up to any border. Borders
never depend on load or batch mates.
"""

CHUNK_STEP = 4  # rows that are multiplied at once
MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 2 * CHUNK_STEP, 128  # a chunk can do without a step, which a tail of one needs


def largest_chunk(head_dim: int) -> int:
    """Most tokens of a chunk for a decoder with this head_dim: one tile, and no more than any machine needs."""
    return min(MAX_CHUNK_TOKENS, 2 * head_dim // CHUNK_STEP * CHUNK_STEP)


def is_chunk_size(tokens: int) -> bool:
    """Whether prompts may be cut into chunks of so many tokens."""
    return MIN_CHUNK_TOKENS <= tokens <= MAX_CHUNK_TOKENS and tokens % CHUNK_STEP == 0


def chunk_plan(prompt_tokens: int, chunk_tokens: int) -> list[int]:
    """Lengths of the chunks in which a prompt is run, in order.

    Full chunks from position 0, then what is left. Where one token would be left, the last full chunk gives it four
    more; only a prompt of one token is run as a chunk of one.

    Raises ValueError when `prompt_tokens` is below 1 or `chunk_tokens` no multiple of 4 from 8 to 128.
    """
    if prompt_tokens < 1:
        raise ValueError(f"prompt_tokens is {prompt_tokens}; a prompt has at least 1 token")
    if not is_chunk_size(chunk_tokens):
        sizes = f"a multiple of {CHUNK_STEP} from {MIN_CHUNK_TOKENS} to {MAX_CHUNK_TOKENS}"
        raise ValueError(f"chunk_tokens is {chunk_tokens}; it must be {sizes}")
    full, rest = divmod(prompt_tokens, chunk_tokens)
    plan = [chunk_tokens] * full + ([rest] if rest else [])
    if rest == 1 and full:
        plan[-2:] = [chunk_tokens - CHUNK_STEP, CHUNK_STEP + 1]
    return plan
