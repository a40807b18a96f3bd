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
    PRECISION_INT8: _ClassVar[Precision]

class CpuFeature(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CPU_FEATURE_UNSPECIFIED: _ClassVar[CpuFeature]
    CPU_FEATURE_NONE: _ClassVar[CpuFeature]
    CPU_FEATURE_INT8_DOT_PRODUCT: _ClassVar[CpuFeature]

class ElementType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ELEMENT_TYPE_UNSPECIFIED: _ClassVar[ElementType]
    ELEMENT_TYPE_FLOAT32: _ClassVar[ElementType]
    ELEMENT_TYPE_INT32: _ClassVar[ElementType]
    ELEMENT_TYPE_INT64: _ClassVar[ElementType]

class Pooling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOLING_UNSPECIFIED: _ClassVar[Pooling]
    POOLING_MEAN: _ClassVar[Pooling]
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_INT8: Precision
CPU_FEATURE_UNSPECIFIED: CpuFeature
CPU_FEATURE_NONE: CpuFeature
CPU_FEATURE_INT8_DOT_PRODUCT: CpuFeature
ELEMENT_TYPE_UNSPECIFIED: ElementType
ELEMENT_TYPE_FLOAT32: ElementType
ELEMENT_TYPE_INT32: ElementType
ELEMENT_TYPE_INT64: ElementType
POOLING_UNSPECIFIED: Pooling
POOLING_MEAN: Pooling

class Manifest(_message.Message):
    __slots__ = ("format_version", "name", "source", "files", "onnxruntime_version", "graphs", "tokenizer", "golden_file", "embedding")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ONNXRUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FILE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    name: str
    source: Source
    files: _containers.RepeatedCompositeFieldContainer[File]
    onnxruntime_version: str
    graphs: _containers.RepeatedCompositeFieldContainer[Graph]
    tokenizer: Tokenizer
    golden_file: str
    embedding: EmbeddingTask
    def __init__(self, format_version: _Optional[int] = ..., name: _Optional[str] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., onnxruntime_version: _Optional[str] = ..., graphs: _Optional[_Iterable[_Union[Graph, _Mapping]]] = ..., tokenizer: _Optional[_Union[Tokenizer, _Mapping]] = ..., golden_file: _Optional[str] = ..., embedding: _Optional[_Union[EmbeddingTask, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("precision", "file", "opset", "cpu_feature", "inputs", "outputs", "tolerance")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OPSET_FIELD_NUMBER: _ClassVar[int]
    CPU_FEATURE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    file: str
    opset: int
    cpu_feature: CpuFeature
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    tolerance: Tolerance
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., file: _Optional[str] = ..., opset: _Optional[int] = ..., cpu_feature: _Optional[_Union[CpuFeature, str]] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., tolerance: _Optional[_Union[Tolerance, _Mapping]] = ...) -> None: ...

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

class GoldenFile(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[GoldenEmbedding]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[GoldenEmbedding, _Mapping]]] = ...) -> None: ...

class GoldenEmbedding(_message.Message):
    __slots__ = ("text", "token_ids", "vector")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    vector: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., vector: _Optional[_Iterable[float]] = ...) -> None: ...
