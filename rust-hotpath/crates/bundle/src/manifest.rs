//! The manifest in types that cannot hold what was not checked.

use std::{collections::BTreeSet, ops::RangeInclusive};

use hotpath_contract::bundle::v1::{self as proto, ElementType, Precision, manifest};
use serde::Deserialize;

use crate::{
    Refused,
    fields::{check, enumerated, is_model_name, positive, required, sha256, text, within},
    refused::FILE,
    strict_json,
    tasks::{
        Task,
        classification::{self, Classification},
        embedding::{self, Embedding},
        generation::{self, Generation},
    },
};

/// The only format version that this reader knows.
const FORMAT_VERSION: u32 = 2;

/// Far more tokens than any vocabulary has, and few enough that what is kept of each is no burden.
const VOCABULARY: RangeInclusive<u32> = 1..=1 << 22;

/// An input has room for a token between an opening and a closing one, and is no longer than what a machine can hold.
const TOKENS: RangeInclusive<u32> = 3..=1 << 20;

/// Most bytes of a tokenizer, which takes ten times as much memory: many times what any model's has.
const TOKENIZER_BYTES: u64 = 128 << 20;

const ANOTHER_TASK: &str = "is missing: the model does another task";

/// A checked `triptych.bundle.v1.Manifest`. The fields' meaning is documented there.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Manifest {
    pub name: String,
    pub source: Source,
    pub files: Vec<File>,
    pub onnxruntime_version: String,
    pub graphs: Vec<Graph>,
    /// `None` for a head, which uses its encoder's.
    pub tokenizer: Option<Tokenizer>,
    pub golden_file: String,
    pub task: Task,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Source {
    pub uri: String,
    pub sha256: String,
    pub license: String,
    pub owner: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct File {
    pub path: String,
    pub sha256: String,
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Graph {
    pub precision: Precision,
    pub file: String,
    pub opset: u32,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
    pub tolerance: Tolerance,
    /// Beyond those of ONNX and ONNX Runtime.
    pub operator_sets: Vec<OperatorSet>,
}

/// Operators, as a graph imports them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct OperatorSet {
    pub domain: String,
    pub version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tensor {
    pub name: String,
    pub element_type: ElementType,
    pub shape: Vec<Axis>,
}

/// One axis of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Always this size.
    Fixed(u32),
    /// As large as each call says; axes of the same name are equal.
    Symbolic(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Tolerance {
    pub max_abs_error: f64,
    pub min_cosine: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tokenizer {
    pub file: String,
    pub vocabulary_size: u32,
    pub max_tokens: u32,
}

impl Manifest {
    /// The embedding task.
    ///
    /// # Errors
    /// [`Refused`] when the model does another task.
    pub fn embedding(&self) -> Result<&Embedding, Refused> {
        match &self.task {
            Task::Embedding(embedding) => Ok(embedding),
            _ => Err(Refused::manifest("embedding", ANOTHER_TASK)),
        }
    }

    /// The generation task.
    ///
    /// # Errors
    /// [`Refused`] when the model does another task.
    pub fn generation(&self) -> Result<&Generation, Refused> {
        match &self.task {
            Task::Generation(generation) => Ok(generation),
            _ => Err(Refused::manifest("generation", ANOTHER_TASK)),
        }
    }

    /// The classification task.
    ///
    /// # Errors
    /// [`Refused`] when the model does another task.
    pub fn classification(&self) -> Result<&Classification, Refused> {
        match &self.task {
            Task::Classification(classification) => Ok(classification),
            _ => Err(Refused::manifest("classification", ANOTHER_TASK)),
        }
    }

    /// The tokenizer and its bounds.
    ///
    /// # Errors
    /// [`Refused`] for a head, which has none of its own.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Refused> {
        needed(self.tokenizer.as_ref())
    }

    /// Parses and checks the bytes of `bundle.json`.
    ///
    /// # Errors
    /// [`Refused`] names the first field that is unknown, missing, of the wrong type or out of its range.
    pub fn parse(json: &[u8]) -> Result<Self, Refused> {
        format_version(json)?;
        let proto: proto::Manifest = strict_json::read("triptych.bundle.v1.Manifest", FILE, json)?;
        known_version(proto.format_version)?;
        let files = files(proto.files)?;
        let known = |path: String, field: &str| {
            check(files.iter().any(|file| file.path == path), field, || format!("\"{path}\" is not among the files"))?;
            Ok(path)
        };
        let task = required(proto.task, "embedding")?;
        let tokenizer = proto.tokenizer.map(|tokenizer| {
            let small = |file: &File| file.path != tokenizer.file || file.size_bytes <= TOKENIZER_BYTES;
            check(files.iter().all(small), "tokenizer.file", || format!("has more than {TOKENIZER_BYTES} bytes"))?;
            Ok(Tokenizer {
                file: known(tokenizer.file, "tokenizer.file")?,
                vocabulary_size: within(tokenizer.vocabulary_size, VOCABULARY, "tokenizer.vocabulary_size")?,
                max_tokens: within(tokenizer.max_tokens, TOKENS, "tokenizer.max_tokens")?,
            })
        });
        let tokenizer = tokenizer.transpose()?;
        let task = match task {
            manifest::Task::Embedding(task) => {
                needed(tokenizer.as_ref())?;
                Task::Embedding(embedding::read(task)?)
            }
            manifest::Task::Generation(task) => {
                Task::Generation(generation::read(task, needed(tokenizer.as_ref())?.vocabulary_size)?)
            }
            manifest::Task::Classification(task) => {
                check(tokenizer.is_none(), "tokenizer", || "is there: a head uses its encoder's".to_owned())?;
                Task::Classification(classification::read(task, &proto.name)?)
            }
        };
        Ok(Self {
            name: name(proto.name)?,
            source: source(required(proto.source, "source")?)?,
            onnxruntime_version: text(proto.onnxruntime_version, "onnxruntime_version")?,
            graphs: graphs(proto.graphs, known)?,
            golden_file: known(proto.golden_file, "golden_file")?,
            task,
            tokenizer,
            files,
        })
    }
}

/// Looks at the version before anything else: fields of another format are no fault of the manifest's.
fn format_version(json: &[u8]) -> Result<(), Refused> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    // Of what is no number the strict reader says more.
    serde_json::from_slice(json).map_or(Ok(()), |Version { format_version }| known_version(format_version))
}

fn known_version(version: u32) -> Result<(), Refused> {
    check(version == FORMAT_VERSION, "format_version", || {
        format!("is {version}, this reader knows {FORMAT_VERSION}: export the model anew")
    })
}

fn needed(tokenizer: Option<&Tokenizer>) -> Result<&Tokenizer, Refused> {
    tokenizer.ok_or_else(|| Refused::manifest("tokenizer", "missing field \"tokenizer\""))
}

fn name(name: String) -> Result<String, Refused> {
    check(is_model_name(&name), "name", || {
        format!("\"{name}\" is not 1 to 64 of a-z, 0-9, '.', '-' and '_', beginning with a letter")
    })?;
    Ok(name)
}

fn source(proto: proto::Source) -> Result<Source, Refused> {
    Ok(Source {
        uri: text(proto.uri, "source.uri")?,
        sha256: sha256(proto.sha256, "source.sha256")?,
        license: text(proto.license, "source.license")?,
        owner: text(proto.owner, "source.owner")?,
    })
}

fn files(proto: Vec<proto::File>) -> Result<Vec<File>, Refused> {
    let mut files = Vec::<File>::with_capacity(proto.len());
    for (i, file) in proto.into_iter().enumerate() {
        let path = file.path;
        let plain = !path.is_empty() && !path.starts_with('.') && !path.contains(['/', '\\', '\0']);
        check(plain, &format!("files[{i}].path"), || format!("\"{path}\" is not a plain file name"))?;
        check(path != FILE, &format!("files[{i}].path"), || "the manifest does not list itself".to_owned())?;
        check(files.last().is_none_or(|before| before.path < path), &format!("files[{i}].path"), || {
            format!("\"{path}\" is out of order or there twice")
        })?;
        let sha256 = sha256(file.sha256, &format!("files[{i}].sha256"))?;
        files.push(File { path, sha256, size_bytes: file.size_bytes });
    }
    Ok(files)
}

fn graphs(
    proto: Vec<proto::Graph>,
    known: impl Fn(String, &str) -> Result<String, Refused>,
) -> Result<Vec<Graph>, Refused> {
    check(!proto.is_empty(), "graphs", || "there must be at least one".to_owned())?;
    let mut precisions = BTreeSet::new();
    let mut graphs = Vec::with_capacity(proto.len());
    for (i, graph) in proto.into_iter().enumerate() {
        let at = |field: &str| format!("graphs[{i}].{field}");
        let precision = enumerated(graph.precision, &at("precision"))?;
        check(precisions.insert(graph.precision), &at("precision"), || "is there twice".to_owned())?;
        graphs.push(Graph {
            precision,
            file: known(graph.file, &at("file"))?,
            opset: positive(graph.opset, &at("opset"))?,
            inputs: tensors(graph.inputs, &at("inputs"))?,
            outputs: tensors(graph.outputs, &at("outputs"))?,
            tolerance: tolerance(required(graph.tolerance, &at("tolerance"))?, &at("tolerance"))?,
            operator_sets: operator_sets(graph.operator_sets, &at("operator_sets"))?,
        });
    }
    Ok(graphs)
}

fn operator_sets(proto: Vec<proto::OperatorSet>, at: &str) -> Result<Vec<OperatorSet>, Refused> {
    let mut domains = BTreeSet::new();
    let sets = proto.into_iter().enumerate().map(|(i, set)| {
        let at = format!("{at}[{i}]");
        let domain = text(set.domain, &format!("{at}.domain"))?;
        check(domains.insert(domain.clone()), &format!("{at}.domain"), || format!("\"{domain}\" is there twice"))?;
        Ok(OperatorSet { domain, version: positive(set.version, &format!("{at}.version"))? })
    });
    sets.collect()
}

fn tensors(proto: Vec<proto::Tensor>, at: &str) -> Result<Vec<Tensor>, Refused> {
    check(!proto.is_empty(), at, || "there must be at least one".to_owned())?;
    let mut names = BTreeSet::new();
    let mut tensors = Vec::with_capacity(proto.len());
    for (i, tensor) in proto.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        let name = text(tensor.name, &format!("{at}.name"))?;
        check(names.insert(name.clone()), &format!("{at}.name"), || format!("\"{name}\" is there twice"))?;
        let shape = tensor.shape.into_iter().enumerate();
        tensors.push(Tensor {
            name,
            element_type: enumerated(tensor.element_type, &format!("{at}.element_type"))?,
            shape: shape
                .map(|(axis, size)| self::axis(size, &format!("{at}.shape[{axis}]")))
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(tensors)
}

fn axis(size: String, at: &str) -> Result<Axis, Refused> {
    let size = text(size, at)?;
    if !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Axis::Symbolic(size));
    }
    let number = size.parse::<u32>().map_err(|error| Refused::manifest(at, error))?;
    Ok(Axis::Fixed(positive(number, at)?))
}

fn tolerance(proto: proto::Tolerance, at: &str) -> Result<Tolerance, Refused> {
    let error = proto.max_abs_error;
    check(error.is_finite() && error > 0.0, &format!("{at}.max_abs_error"), || format!("{error} is not above 0"))?;
    let cosine = proto.min_cosine;
    check(cosine > 0.0 && cosine <= 1.0, &format!("{at}.min_cosine"), || {
        format!("{cosine} is not above 0 and at most 1")
    })?;
    Ok(Tolerance { max_abs_error: error, min_cosine: cosine })
}
