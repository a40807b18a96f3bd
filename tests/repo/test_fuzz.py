"""Whatever reads bytes from outside in the gateway has a fuzz target; `go test` runs the seeds of each."""

import re

from repo import fuzz
from repo.tree import ROOT

# What reads bytes that somebody else wrote → its fuzz target.
PARSERS = {
    "internal/openai: Decoder.Embeddings": "FuzzDecodeEmbeddings",
    "internal/openai: Decoder.Chat": "FuzzDecodeGeneration",
    "internal/openai: Decoder.Completion": "FuzzDecodeGeneration",
    "internal/openai: Decoder.Moderation": "FuzzDecodeModeration",
    "internal/openai: Decoder.ModerationTexts": "FuzzDecodeModeration",
    "internal/openai: Decoder.Tokenize": "FuzzDecodeTokenize",
    "internal/openai: Decoder.Batch": "FuzzDecodeBatch",
    "internal/openai: Decoder.Job": "FuzzDecodeJob",
    "internal/openai: Decoder.ReviewDecision": "FuzzDecodeReviewDecision",
    "internal/openai: Decoder.Webhook": "FuzzDecodeWebhook",
    "internal/openai: Decoder.WebhookChange": "FuzzDecodeWebhook",
    "internal/openai: Decoder.WebhookRotation": "FuzzDecodeWebhook",
    "internal/openai: Decoder.WebhookTest": "FuzzDecodeWebhook",
    "internal/openai: Chunks.AppendDelta": "FuzzStreamsAreEventsOfJSON",
    "internal/moderation: Judge": "FuzzJudge",
    "internal/identity: readTenants": "FuzzReadTenants",
    "internal/identity: splitScopes": "FuzzScopes",
    "internal/identity: Directory.Authenticate": "FuzzAuthorization",
    "internal/identity: tokenReader.read": "FuzzToken",
    "internal/jwks: parse": "FuzzParse",
    "internal/quota/redisstore: decisionOf": "FuzzScriptReplies",
    "internal/server: requestTimeout": "FuzzRequestTimeout",
    "internal/server: idempotencyKey": "FuzzIdempotencyKey",
    "internal/server: requestID": "FuzzIdentity",
    "internal/server: traceparent": "FuzzIdentity",
    "internal/server: checkBodyHeaders": "FuzzBodyHeaders",
    "internal/server: uploadForm.receive": "FuzzUploadForm",
    "internal/server: exchange.contentRange": "FuzzContentRange",
    "internal/files: lineChecker.Write": "FuzzLines",
    "internal/batch: parseLine": "FuzzLine",
    "cmd/embed/internal/records: jsonl.each": "FuzzJSONL",
    "cmd/embed/internal/vectors: Store.follow": "FuzzLog",
    "internal/webhook: Guard.CheckURL": "FuzzURL",
}
# Headers that are read, by what reads them; of Expect only whether it is there.
HEADERS = {
    "Authorization": "Directory.Authenticate",
    "X-Request-Id": "requestID",
    "Traceparent": "traceparent",
    "Content-Type": "checkBodyHeaders",
    "Content-Encoding": "checkBodyHeaders",
    "timeoutHeader": "requestTimeout",
    "idempotencyHeader": "idempotencyKey",
    "Range": "exchange.contentRange",
    "If-Range": "exchange.contentRange",
    "Content-Transfer-Encoding": "uploadForm.receive",
    "Expect": None,
}


def code(folder: str) -> str:
    files = sorted((ROOT / "go-gateway" / folder).glob("*.go"))
    return "\n".join(path.read_text() for path in files if not path.name.endswith("_test.go"))


def test_every_parser_of_the_table_is_there() -> None:
    for parser in PARSERS:
        package, name = parser.split(": ")
        receiver, _, function = name.rpartition(".")
        declared = rf"^func \(\w+ \*{receiver}\) {function}\(" if receiver else rf"^func {function}\("
        assert re.search(declared, code(package), re.M), parser


def test_the_targets_are_those_of_the_table() -> None:
    assert set(fuzz.targets()) == set(PARSERS.values())


def test_every_body_has_a_target() -> None:
    decoders = re.findall(r"^func \(d \*Decoder\) (\w+)\(body \[\]byte", code("internal/openai"), re.M)
    assert {f"internal/openai: Decoder.{name}" for name in decoders} <= set(PARSERS)
    assert decoders


def test_every_header_that_is_read_has_a_target() -> None:
    read = re.findall(r"[hH]eader\.(?:Get|Values)\(\"?([\w-]+)\"?\)", code("internal/server"))
    assert set(read) == set(HEADERS)
    names = {parser.split(": ")[1] for parser in PARSERS}
    assert {reader for reader in HEADERS.values() if reader} <= names
