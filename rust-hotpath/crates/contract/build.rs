//! Makes the stubs from `proto/`. protox compiles the files in pure Rust, so that nothing needs a system `protoc`.

use std::{env, error::Error, fs, io, path::Path, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // From this crate's folder, where build scripts run: a clone that is moved takes what was built along.
    let root = Path::new("../../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    proto_files(root, &mut files)?;

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;

    // Written here because `file_descriptor_set_path` has no effect without a protoc.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".triptych.inference.v1.EmbedResponse.embeddings")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Collects the `.proto` files below a folder: a new file needs no change here.
fn proto_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
