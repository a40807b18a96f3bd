"""Where a prompt is cut when it is run in chunks. The hot path has the same function; the golden file holds test vectors.

A chunk of one token takes another path through attention than the same token inside a larger chunk (so does the 129th
row of a chunk of 129, because attention works in tiles of 128), and later layers' rounding makes a visible difference of
it. So chunks have 2 to 128 tokens, and their borders depend on nothing but the prompt's length: never on load or batch
mates. Then a prompt gives the same numbers, bit for bit, whenever it is run.
"""

MAX_CHUNK_TOKENS = 128
MIN_CHUNK_TOKENS = 3  # below, a tail of one could not borrow a token from its neighbour without making another


def chunk_plan(prompt_tokens: int, chunk_tokens: int) -> list[int]:
    """Lengths of the chunks in which a prompt is run, in order.

    Full chunks from position 0, then what is left. Where one token would be left, the last full chunk gives it one more.
    Only a prompt of one token is run as a chunk of one. Computed states of a prompt's beginning can be reused for another
    prompt up to a border that both plans have.

    Raises ValueError when `prompt_tokens` is below 1 or `chunk_tokens` outside 3 to 128.
    """
    if prompt_tokens < 1:
        raise ValueError(f"prompt_tokens is {prompt_tokens}; a prompt has at least 1 token")
    if not MIN_CHUNK_TOKENS <= chunk_tokens <= MAX_CHUNK_TOKENS:
        raise ValueError(f"chunk_tokens is {chunk_tokens}; it must be {MIN_CHUNK_TOKENS} to {MAX_CHUNK_TOKENS}")
    full, rest = divmod(prompt_tokens, chunk_tokens)
    plan = [chunk_tokens] * full + ([rest] if rest else [])
    if rest == 1 and full:
        plan[-2:] = [chunk_tokens - 1, 2]
    return plan
