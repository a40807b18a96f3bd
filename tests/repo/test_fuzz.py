"""Whatever reads bytes from outside, in the gateway and beside it, has a fuzz target; `go test` runs their seeds."""

import re
from collections.abc import Iterator

from repo import fuzz
from repo.tree import ROOT, text_of, tracked_files

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
    "internal/plans: Parse": "FuzzTenantsFile",
    "internal/identity: splitScopes": "FuzzScopes",
    "internal/identity: Directory.Authenticate": "FuzzAuthorization",
    "internal/identity: tokenReader.read": "FuzzToken",
    "internal/jwks: parse": "FuzzParse",
    "internal/quota/redisstore: decisionOf": "FuzzScriptReplies",
    "internal/apiclient: ReadRefusal": "FuzzRefusal",
    "internal/engine: faultOf": "FuzzErrorDetails",
    "internal/engine: isDescribed": "FuzzErrorDetails",
    "internal/engine: waitingOf": "FuzzErrorDetails",
    "internal/server: query": "FuzzQuery",
    "internal/server: readPage": "FuzzQuery",
    "internal/server: pageSize": "FuzzQuery",
    "internal/server: readWait": "FuzzQuery",
    "internal/server: readBefore": "FuzzQuery",
    "internal/server: readKeyAsked": "FuzzAdminKey",
    "internal/server: readRotation": "FuzzAdminRotation",
    "internal/server: bodyFields": "FuzzBodyFields",
    "internal/server: requestTimeout": "FuzzRequestTimeout",
    "internal/server: idempotencyKey": "FuzzIdempotencyKey",
    "internal/server: requestID": "FuzzIdentity",
    "internal/server: traceparent": "FuzzIdentity",
    "internal/server: checkBodyHeaders": "FuzzBodyHeaders",
    "internal/server: uploadForm.receive": "FuzzUploadForm",
    "internal/server: exchange.contentRange": "FuzzContentRange",
    "internal/files: lineChecker.Write": "FuzzLines",
    "internal/batch: parseLine": "FuzzLine",
    "internal/batch: ModelOf": "FuzzLine",
    "cmd/consumer: delivery.examine": "FuzzMessage",
    "cmd/consumer: keyOf": "FuzzMessage",
    "cmd/consumer/internal/jobs: decode": "FuzzJob",
    "cmd/consumer/internal/jobs: Job.Failure": "FuzzJob",
    "cmd/operator/internal/live: parse": "FuzzMetrics",
    "cmd/embed/internal/api: Client.read": "FuzzEmbeddings",
    "cmd/embed/internal/api: Client.readModel": "FuzzModel",
    "cmd/embed/internal/records: jsonl.each": "FuzzJSONL",
    "cmd/embed/internal/records: table.each": "FuzzCSV",
    "cmd/embed/internal/records: parquet.reading": "FuzzParquet",
    "cmd/embed/internal/vectors: Store.follow": "FuzzLog",
    "internal/webhook: Guard.CheckURL": "FuzzURL",
    "internal/webhook: answered": "FuzzReceiverReply",
    "internal/webhook: retryAfter": "FuzzReceiverReply",
}
# What parses a part of what one of these reads, or all of it for one of them → that one.
PARTS = {
    "internal/strictjson: Decode": "internal/openai: Decoder.Embeddings",
    "internal/batch: stringOf": "internal/batch: parseLine",
    "internal/jwks: decode": "internal/jwks: parse",
    "internal/moderation: readScores": "internal/moderation: Judge",
    "internal/server: newUploadForm": "internal/server: uploadForm.receive",
    "cmd/embed/internal/records: jsonl.parse": "cmd/embed/internal/records: jsonl.each",
    "cmd/embed/internal/records: table.rows": "cmd/embed/internal/records: table.each",
    "cmd/embed/internal/vectors: Store.readRefusal": "cmd/embed/internal/vectors: Store.follow",
}
# What parses what is not from outside → whose it is.
SETTING, KEPT, OPERATORS = (
    "a setting",
    "what the same program has written",
    "the admin API of the operator's own gateway",
)
OURS = {
    "internal/command: CheckURL": SETTING,
    "cmd/embed: settings.check": SETTING,
    "cmd/operator/internal/tenants: Setup": SETTING,
    "internal/config: httpsURL": SETTING,
    "internal/config: collectorURL": SETTING,
    "internal/config: redisURL": SETTING,
    "internal/store: parsePostgres": SETTING,
    "internal/tracing: dial": SETTING,
    "cmd/embed: agree": KEPT,
    "cmd/operator/internal/tenants: merge": KEPT,
    "cmd/embed: pipeline.readDone": KEPT,
    "internal/blob: Folder.walk": KEPT,
    "internal/moderation: ParseContent": KEPT,
    "internal/moderation: ParseThresholds": KEPT,
    "internal/server: creation.replay": KEPT,
    "internal/webhook: sign": KEPT,
    "internal/adminapi: Client.Limits": OPERATORS,
    "internal/adminapi: Client.Overview": OPERATORS,
    "internal/adminapi: read": OPERATORS,
    "internal/adminapi: refusal": OPERATORS,
}
# Calls by which bytes, or a text, become something else.
PARSING = re.compile(
    r"\b(?:strictjson\.Decode|url\.Parse\w*|json\.Unmarshal\w*|json\.(?:NewDecoder|Valid)|jsontext\.NewDecoder|csv\.NewReader"
    r"|yaml\.(?:NewDecoder|Unmarshal)|mime\.ParseMediaType|multipart\.NewReader|proto\.Unmarshal|protojson\.Unmarshal"
    r"|http\.Read(?:Request|Response)|parquetfile\.(?:OpenParquetFile|NewParquetReader))\("
    r"|\.(?:ParseWithClaims|ParseUnverified|Details|DecodeString|TextToMetricFamilies)\("
)
# Generated code, and what tests alone run.
NO_PARSERS = ("/internal/pb/", "/internal/testkit/")
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
    "Retry-After": "retryAfter",
    "X-Should-Retry": "ReadRefusal",
    "told.name": "ReadRefusal",
    "jetstream.MsgIDHeader": "keyOf",
    "revisionHeader": None,  # is compared with what is wanted
}
FUNCTION = re.compile(r"^func (?:\(\w+ \*?(\w+)[^)]*\) )?(\w+)[\[(]")


def code(folder: str) -> str:
    files = sorted((ROOT / "go-gateway" / folder).glob("*.go"))
    return "\n".join(path.read_text() for path in files if not path.name.endswith("_test.go"))


def all_code() -> Iterator[tuple[str, str]]:
    """A package's name and the text of a file of its, for each file that is no test's."""
    for path in tracked_files():
        name = str(path)
        ours = name.startswith("go-gateway/") and not any(part in name for part in NO_PARSERS)
        if ours and name.endswith(".go") and not name.endswith("_test.go"):
            yield str(path.parent.relative_to("go-gateway")), text_of(path) or ""


def parsing_functions() -> set[str]:
    """The functions in which something is parsed."""
    found = set()
    for package, text in all_code():
        function = ""
        for line in text.splitlines():
            if begins := FUNCTION.match(line):
                function = ".".join(filter(None, begins.groups()))
            if PARSING.search(line):
                found.add(f"{package}: {function}")
    return found


def test_every_parser_of_the_table_is_there() -> None:
    for parser in PARSERS:
        package, name = parser.split(": ")
        receiver, _, function = name.rpartition(".")
        declared = rf"^func \(\w+ \*?{receiver}\) {function}\(" if receiver else rf"^func {function}\("
        assert re.search(declared, code(package), re.M), parser


def test_the_targets_are_those_of_the_table() -> None:
    assert set(fuzz.targets()) == set(PARSERS.values())


def test_every_body_has_a_target() -> None:
    decoders = re.findall(r"^func \(d \*Decoder\) (\w+)\(body \[\]byte", code("internal/openai"), re.M)
    assert {f"internal/openai: Decoder.{name}" for name in decoders} <= set(PARSERS)
    assert decoders


def test_whatever_parses_has_a_target_or_a_reason() -> None:
    """A new one without a row fails here, and so does a row of what is gone."""
    named = [*PARSERS, *PARTS, *OURS]
    found = parsing_functions()
    new, gone = found - set(named), {*PARTS, *OURS} - found
    assert not new, "what is it that these parse?"
    assert not gone
    assert len(set(named)) == len(named), "a function has two rows"
    assert set(PARTS.values()) <= set(PARSERS)


def test_every_header_that_is_read_has_a_target() -> None:
    getting = re.compile(r"[hH]eaders?(?:\(\))?\.(?:Get|Values)\(\"?([\w.-]+)\"?\)")
    assert {header for _, text in all_code() for header in getting.findall(text)} == set(HEADERS)
    names = {parser.split(": ")[1] for parser in PARSERS}
    assert {reader for reader in HEADERS.values() if reader} <= names
