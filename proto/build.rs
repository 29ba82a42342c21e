//! Compiles the `.proto` file with protox, so that no `protoc` is needed: once as everybody knows it, and once more for
//! the broker's side of `ConsumerService`, whose answers carry the stored activation as bytes.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PACKAGE: &str = "sentry_protos.taskbroker.v1";
const FILE: &str = "sentry_protos/taskbroker/v1/taskbroker.proto";

/// Responses that `src/raw.rs` writes by hand.
const RAW: [&str; 2] = ["GetTaskResponse", "SetTaskStatusResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let files = protox::compile([FILE], ["proto"])?;
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(files.clone())?;

    let out = out.join("raw");
    fs::create_dir_all(&out)?;
    let mut builder = tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::raw::RawCodec")
        .out_dir(out)
        .extern_path(format!(".{PACKAGE}"), "crate::pb");
    for name in RAW {
        builder = builder.extern_path(format!(".{PACKAGE}.{name}"), format!("crate::raw::{name}"));
    }
    builder.compile_fds(consumer_service_only(files))?;
    Ok(())
}

fn consumer_service_only(mut files: prost_types::FileDescriptorSet) -> prost_types::FileDescriptorSet {
    for file in &mut files.file {
        file.service.retain(|service| service.name() == "ConsumerService");
    }
    files
}
