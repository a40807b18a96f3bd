//! A small valid bundle in a temporary folder.

use std::{fs, path::PathBuf};

use hotpath_bundle::{Bundle, Refused, Revision};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TOKENIZER: &[u8] = b"{\"tokenizer\": 1}";
const MODEL: &[u8] = b"a graph";

/// Each kind of manifest with its golden file.
pub const KINDS: [fn() -> (Value, Value); 3] = [embedding, generation, classification];

/// A manifest of an embedding model and its golden file.
pub fn embedding() -> (Value, Value) {
    let golden = json!({"embeddings": [
        {"text": "one", "token_ids": [1, 2], "vector": [0.6, 0.8], "graphs": [{"values": [0.6, 0.8]}]},
        {"text": "one more", "token_ids": [1, 3, 2], "vector": [1.0, 0.0], "graphs": [{"values": [1.0, 0.0]}]},
    ]});
    let mut manifest = manifest(&golden);
    manifest["embedding"] = json!({"pooling": "POOLING_MEAN", "normalize": true, "dimensions": [2]});
    (manifest, golden)
}

/// A manifest of a generation model and its golden file.
pub fn generation() -> (Value, Value) {
    let said = || json!({"next_token_logits": [0.5, -1.5], "token_ids": [4, 0], "margins": [0.25, 1.0]});
    let case = |ids: &[u32]| json!({"prompt_ids": ids, "logit_ids": [0, 4], "reference": said(), "graphs": [said()]});
    let (mut text, mut conversation) = (case(&[1, 2]), case(&[1, 3, 2]));
    text["text"] = json!("one");
    conversation["conversation"] = json!({"messages": [{"role": "user", "content": "one more"}]});
    let golden = json!({
        "generations": [text, conversation],
        "clear_margin": 0.5,
    });
    let mut manifest = manifest(&golden);
    manifest["generation"] = json!({
        "kv_cache": {"layers": 2, "kv_heads": 1, "head_dimensions": 16},
        "stop_token_ids": [0, 9],
        "chat_template": [{
            "place": "CHAT_PLACE_BEFORE_USER",
            "pieces": [{"text": "<start>", "control": true}, {"text": "user\n", "control": false}],
            "trims_message": true,
        }],
        "golden_processor": "x86_64, Haswell",
    });
    (manifest, golden)
}

/// A manifest of a classification model and its golden file.
pub fn classification() -> (Value, Value) {
    let golden = json!({"classifications": [
        {"text": "one", "scores": [0.25, 1.0]},
        {"text": "one more", "scores": [0.0, 0.5]},
    ]});
    let mut manifest = manifest(&golden);
    manifest.as_object_mut().unwrap().remove("tokenizer");
    manifest["classification"] = json!({
        "encoder": "another",
        "encoder_sha256": "1".repeat(64),
        "labels": [
            {"name": "rude", "threshold": 0.5, "advisory": false},
            {"name": "kind", "threshold": 0.75, "advisory": true},
        ],
    });
    (manifest, golden)
}

/// A manifest without a task.
fn manifest(golden: &Value) -> Value {
    let tensor = |name: &str, element_type: &str, shape: &[&str]| json!({"name": name, "element_type": element_type, "shape": shape});
    json!({
        "format_version": 2,
        "name": "sample",
        "source": {"uri": "file:sample", "sha256": "0".repeat(64), "license": "MIT", "owner": "someone"},
        "files": files(&serde_json::to_vec(golden).unwrap()),
        "onnxruntime_version": "1.31.1",
        "graphs": [{
            "precision": "PRECISION_BLOCK_QUANTIZED",
            "file": "model.block_quantized.onnx",
            "opset": 18,
            "inputs": [
                tensor("input_ids", "ELEMENT_TYPE_INT64", &["tokens"]),
                tensor("total_sequence_length", "ELEMENT_TYPE_INT32", &[]),
            ],
            "outputs": [tensor("hidden_states", "ELEMENT_TYPE_FLOAT32", &["tokens", "2"])],
            "tolerance": {"max_abs_error": 0.05, "min_cosine": 0.99},
            "operator_sets": [{"domain": "hotpath.kernels", "version": 2}],
        }],
        "tokenizer": {"file": "tokenizer.json", "vocabulary_size": 10, "max_tokens": 8},
        "golden_file": "golden.json",
    })
}

fn files(golden: &[u8]) -> Value {
    let entry = |path: &str, bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let (size_bytes, sha256) = hotpath_bundle::hash(file.path()).unwrap();
        json!({"path": path, "sha256": sha256, "size_bytes": size_bytes.to_string()})
    };
    json!([
        entry("golden.json", golden),
        entry("model.block_quantized.onnx", MODEL),
        entry("tokenizer.json", TOKENIZER),
    ])
}

pub struct Sample {
    models: TempDir,
    pub revision: Revision,
}

impl Sample {
    pub fn write() -> Self {
        Self::write_with(embedding(), |_| (), |_| ())
    }

    /// Writes a bundle whose hashes are right, whatever is changed in its manifest and golden file.
    pub fn write_with(
        (mut manifest, mut golden): (Value, Value),
        change_manifest: impl FnOnce(&mut Value),
        change_golden: impl FnOnce(&mut Value),
    ) -> Self {
        change_manifest(&mut manifest);
        change_golden(&mut golden);
        Self::write_bytes(manifest, &serde_json::to_vec(&golden).unwrap())
    }

    /// Writes a bundle with any bytes as its golden file.
    pub fn write_bytes(mut manifest: Value, golden: &[u8]) -> Self {
        manifest["files"] = files(golden);
        let manifest = serde_json::to_vec(&manifest).unwrap();

        let sample = Self { models: tempfile::tempdir().unwrap(), revision: Revision::of(&manifest) };
        fs::create_dir_all(sample.folder()).unwrap();
        fs::write(sample.folder().join("bundle.json"), manifest).unwrap();
        fs::write(sample.folder().join("golden.json"), golden).unwrap();
        fs::write(sample.folder().join("model.block_quantized.onnx"), MODEL).unwrap();
        fs::write(sample.folder().join("tokenizer.json"), TOKENIZER).unwrap();
        let current = json!({"revision": sample.revision.as_str(), "history": []});
        fs::write(sample.model_folder().join("current"), serde_json::to_vec(&current).unwrap()).unwrap();
        sample
    }

    pub fn model_folder(&self) -> PathBuf {
        self.models.path().join("sample")
    }

    pub fn folder(&self) -> PathBuf {
        self.model_folder().join(self.revision.as_str())
    }

    pub fn open(&self) -> Result<Bundle, Refused> {
        Bundle::open(&self.model_folder(), &self.revision)
    }
}
