from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FP32: _ClassVar[Precision]
    PRECISION_BLOCK_QUANTIZED: _ClassVar[Precision]

class ElementType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ELEMENT_TYPE_UNSPECIFIED: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT32: _ClassVar[ElementType]
    ELEMENT_TYPE_INT32: _ClassVar[ElementType]
    ELEMENT_TYPE_INT64: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT16: _ClassVar[ElementType]

class Pooling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOLING_UNSPECIFIED: _ClassVar[Pooling]
    POOLING_MEAN: _ClassVar[Pooling]

class ChatPlace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAT_PLACE_UNSPECIFIED: _ClassVar[ChatPlace]
    CHAT_PLACE_OPENING_WITH_SYSTEM: _ClassVar[ChatPlace]
    CHAT_PLACE_OPENING: _ClassVar[ChatPlace]
    CHAT_PLACE_BEFORE_SYSTEM: _ClassVar[ChatPlace]
    CHAT_PLACE_AFTER_SYSTEM: _ClassVar[ChatPlace]
    CHAT_PLACE_BEFORE_USER: _ClassVar[ChatPlace]
    CHAT_PLACE_AFTER_USER: _ClassVar[ChatPlace]
    CHAT_PLACE_BEFORE_ASSISTANT: _ClassVar[ChatPlace]
    CHAT_PLACE_AFTER_ASSISTANT: _ClassVar[ChatPlace]
    CHAT_PLACE_REPLY: _ClassVar[ChatPlace]
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_BLOCK_QUANTIZED: Precision
ELEMENT_TYPE_UNSPECIFIED: ElementType
ELEMENT_TYPE_FLOAT32: ElementType
ELEMENT_TYPE_INT32: ElementType
ELEMENT_TYPE_INT64: ElementType
ELEMENT_TYPE_FLOAT16: ElementType
POOLING_UNSPECIFIED: Pooling
POOLING_MEAN: Pooling
CHAT_PLACE_UNSPECIFIED: ChatPlace
CHAT_PLACE_OPENING_WITH_SYSTEM: ChatPlace
CHAT_PLACE_OPENING: ChatPlace
CHAT_PLACE_BEFORE_SYSTEM: ChatPlace
CHAT_PLACE_AFTER_SYSTEM: ChatPlace
CHAT_PLACE_BEFORE_USER: ChatPlace
CHAT_PLACE_AFTER_USER: ChatPlace
CHAT_PLACE_BEFORE_ASSISTANT: ChatPlace
CHAT_PLACE_AFTER_ASSISTANT: ChatPlace
CHAT_PLACE_REPLY: ChatPlace

class Manifest(_message.Message):
    __slots__ = ("format_version", "name", "source", "files", "onnxruntime_version", "graphs", "tokenizer", "golden_file", "embedding", "generation", "classification")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ONNXRUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FILE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    name: str
    source: Source
    files: _containers.RepeatedCompositeFieldContainer[File]
    onnxruntime_version: str
    graphs: _containers.RepeatedCompositeFieldContainer[Graph]
    tokenizer: Tokenizer
    golden_file: str
    embedding: EmbeddingTask
    generation: GenerationTask
    classification: ClassificationTask
    def __init__(self, format_version: _Optional[int] = ..., name: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., onnxruntime_version: _Optional[str] = ..., graphs: _Optional[_Iterable[_Union[Graph, _Mapping]]] = ..., tokenizer: _Optional[_Union[Tokenizer, _Mapping]] = ..., golden_file: _Optional[str] = ..., embedding: _Optional[_Union[EmbeddingTask, _Mapping]] = ..., generation: _Optional[_Union[GenerationTask, _Mapping]] = ..., classification: _Optional[_Union[ClassificationTask, _Mapping]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("uri", "sha256", "license", "owner")
    URI_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    uri: str
    sha256: str
    license: str
    owner: str
    def __init__(self, uri: _Optional[str] = ..., sha256: _Optional[str] = ..., license: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("precision", "file", "opset", "inputs", "outputs", "tolerance", "operator_sets")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OPSET_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_SETS_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    file: str
    opset: int
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    tolerance: Tolerance
    operator_sets: _containers.RepeatedCompositeFieldContainer[OperatorSet]
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., file: _Optional[str] = ..., opset: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., tolerance: _Optional[_Union[Tolerance, _Mapping]] = ..., operator_sets: _Optional[_Iterable[_Union[OperatorSet, _Mapping]]] = ...) -> None: ...

class OperatorSet(_message.Message):
    __slots__ = ("domain", "version")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    domain: str
    version: int
    def __init__(self, domain: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "element_type", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    element_type: ElementType
    shape: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., element_type: _Optional[_Union[ElementType, str]] = ..., shape: _Optional[_Iterable[str]] = ...) -> None: ...

class Tolerance(_message.Message):
    __slots__ = ("max_abs_error", "min_cosine")
    MAX_ABS_ERROR_FIELD_NUMBER: _ClassVar[int]
    MIN_COSINE_FIELD_NUMBER: _ClassVar[int]
    max_abs_error: float
    min_cosine: float
    def __init__(self, max_abs_error: _Optional[float] = ..., min_cosine: _Optional[float] = ...) -> None: ...

class Tokenizer(_message.Message):
    __slots__ = ("file", "vocabulary_size", "max_tokens")
    FILE_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    file: str
    vocabulary_size: int
    max_tokens: int
    def __init__(self, file: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class EmbeddingTask(_message.Message):
    __slots__ = ("pooling", "normalize", "dimensions")
    POOLING_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    pooling: Pooling
    normalize: bool
    dimensions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pooling: _Optional[_Union[Pooling, str]] = ..., normalize: _Optional[bool] = ..., dimensions: _Optional[_Iterable[int]] = ...) -> None: ...

class GenerationTask(_message.Message):
    __slots__ = ("kv_cache", "stop_token_ids", "chat_template", "golden_processor")
    KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_PROCESSOR_FIELD_NUMBER: _ClassVar[int]
    kv_cache: KvCache
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    chat_template: _containers.RepeatedCompositeFieldContainer[ChatMarkup]
    golden_processor: str
    def __init__(self, kv_cache: _Optional[_Union[KvCache, _Mapping]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., chat_template: _Optional[_Iterable[_Union[ChatMarkup, _Mapping]]] = ..., golden_processor: _Optional[str] = ...) -> None: ...

class KvCache(_message.Message):
    __slots__ = ("layers", "kv_heads", "head_dimensions")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    layers: int
    kv_heads: int
    head_dimensions: int
    def __init__(self, layers: _Optional[int] = ..., kv_heads: _Optional[int] = ..., head_dimensions: _Optional[int] = ...) -> None: ...

class ChatMarkup(_message.Message):
    __slots__ = ("place", "pieces", "trims_message")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    TRIMS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    place: ChatPlace
    pieces: _containers.RepeatedCompositeFieldContainer[MarkupPiece]
    trims_message: bool
    def __init__(self, place: _Optional[_Union[ChatPlace, str]] = ..., pieces: _Optional[_Iterable[_Union[MarkupPiece, _Mapping]]] = ..., trims_message: _Optional[bool] = ...) -> None: ...

class MarkupPiece(_message.Message):
    __slots__ = ("text", "control")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    text: str
    control: bool
    def __init__(self, text: _Optional[str] = ..., control: _Optional[bool] = ...) -> None: ...

class ClassificationTask(_message.Message):
    __slots__ = ("encoder", "encoder_sha256", "labels")
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    encoder: str
    encoder_sha256: str
    labels: _containers.RepeatedCompositeFieldContainer[ClassLabel]
    def __init__(self, encoder: _Optional[str] = ..., encoder_sha256: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[ClassLabel, _Mapping]]] = ...) -> None: ...

class ClassLabel(_message.Message):
    __slots__ = ("name", "threshold", "advisory")
    NAME_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    ADVISORY_FIELD_NUMBER: _ClassVar[int]
    name: str
    threshold: float
    advisory: bool
    def __init__(self, name: _Optional[str] = ..., threshold: _Optional[float] = ..., advisory: _Optional[bool] = ...) -> None: ...

class ClassificationGoldenFile(_message.Message):
    __slots__ = ("classifications",)
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    classifications: _containers.RepeatedCompositeFieldContainer[GoldenClassification]
    def __init__(self, classifications: _Optional[_Iterable[_Union[GoldenClassification, _Mapping]]] = ...) -> None: ...

class GoldenClassification(_message.Message):
    __slots__ = ("text", "scores")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    text: str
    scores: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, text: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ...) -> None: ...

class GoldenFile(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[GoldenEmbedding]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[GoldenEmbedding, _Mapping]]] = ...) -> None: ...

class GoldenEmbedding(_message.Message):
    __slots__ = ("text", "token_ids", "vector", "graphs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    vector: _containers.RepeatedScalarFieldContainer[float]
    graphs: _containers.RepeatedCompositeFieldContainer[GoldenVector]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., vector: _Optional[_Iterable[float]] = ..., graphs: _Optional[_Iterable[_Union[GoldenVector, _Mapping]]] = ...) -> None: ...

class GoldenVector(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class GenerationGoldenFile(_message.Message):
    __slots__ = ("generations", "clear_margin")
    GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    CLEAR_MARGIN_FIELD_NUMBER: _ClassVar[int]
    generations: _containers.RepeatedCompositeFieldContainer[GoldenGeneration]
    clear_margin: float
    def __init__(self, generations: _Optional[_Iterable[_Union[GoldenGeneration, _Mapping]]] = ..., clear_margin: _Optional[float] = ...) -> None: ...

class GoldenGeneration(_message.Message):
    __slots__ = ("text", "conversation", "prompt_ids", "logit_ids", "reference", "graphs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGIT_IDS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    text: str
    conversation: GoldenConversation
    prompt_ids: _containers.RepeatedScalarFieldContainer[int]
    logit_ids: _containers.RepeatedScalarFieldContainer[int]
    reference: GoldenContinuation
    graphs: _containers.RepeatedCompositeFieldContainer[GoldenContinuation]
    def __init__(self, text: _Optional[str] = ..., conversation: _Optional[_Union[GoldenConversation, _Mapping]] = ..., prompt_ids: _Optional[_Iterable[int]] = ..., logit_ids: _Optional[_Iterable[int]] = ..., reference: _Optional[_Union[GoldenContinuation, _Mapping]] = ..., graphs: _Optional[_Iterable[_Union[GoldenContinuation, _Mapping]]] = ...) -> None: ...

class GoldenConversation(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[GoldenMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[GoldenMessage, _Mapping]]] = ...) -> None: ...

class GoldenMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class GoldenContinuation(_message.Message):
    __slots__ = ("next_token_logits", "token_ids", "margins")
    NEXT_TOKEN_LOGITS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MARGINS_FIELD_NUMBER: _ClassVar[int]
    next_token_logits: _containers.RepeatedScalarFieldContainer[float]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    margins: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, next_token_logits: _Optional[_Iterable[float]] = ..., token_ids: _Optional[_Iterable[int]] = ..., margins: _Optional[_Iterable[float]] = ...) -> None: ...
