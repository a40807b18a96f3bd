"""Texts that are hard to tokenize, each for another reason."""

TEXTS = [
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "don't, won't; can't: e.g. U.S.A., $3.50 (100%)!",
    "naïve café Ångström Größe İstanbul",
    "e\u0301 is é in two code points",
    "日本語のテキスト 中文 한국어",
    "مرحبا بالعالم שלום",
    "Привет, мир",
    "👩‍👩‍👧‍👦 family, 🇩🇪 flag, 👍🏽 skin",
    "zero\u200bwidth, no\u00a0break, soft\u00adhyphen",
    "tabs\tand\nnew\r\nlines   and   spaces",
    "\u0000 null, \u0007 bell, \u001b escape",
    "[CLS] [SEP] [MASK] [UNK] ##ing",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 120,
    "def f(x): return x ** 2  # 1e-9",
    "https://example.com/a/b?c=d&e=f#g",
    "1234567890 ١٢٣ ⅷ ½ ²",
    "\ufffd replacement, \U0001f9ff beyond the basic plane",
    " leading and trailing ",
]
