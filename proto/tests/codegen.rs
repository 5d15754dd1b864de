//! The checked-in code is what the `.proto` files say.
//!
//! After a change to a `.proto` file run `UPDATE_GENERATED=1 cargo test -p mesh-proto --test codegen` and commit both.

#[cfg(test)]
mod codegen {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Set to anything, this makes the test write the code instead of comparing it.
    const UPDATE: &str = "UPDATE_GENERATED";

    fn sources(root: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(root.join("mesh/v1")).expect("proto/mesh/v1 is there");
        let mut sources: Vec<PathBuf> = entries
            .map(|entry| entry.expect("the directory can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "proto"))
            .collect();
        sources.sort();
        sources
    }

    fn generate(root: &Path, out: &Path) {
        let files =
            protox::compile(sources(root), [root]).unwrap_or_else(|error| panic!("{error:?}"));
        tonic_prost_build::configure()
            .out_dir(out)
            .emit_rerun_if_changed(false)
            .bytes(".mesh.v1.TunnelPiece")
            .bytes(".mesh.v1.BlobPiece")
            .bytes(".mesh.v1.ArchivePiece")
            .bytes(".mesh.v1.ExecInput")
            .bytes(".mesh.v1.ExecPiece")
            .bytes(".mesh.v1.LogLine")
            .compile_fds(files)
            .expect("the messages can be written");
    }

    fn names(directory: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("the directory can be read").file_name())
            .map(|name| name.into_string().expect("the names are ASCII"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn generated_code_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let checked_in = root.join("src/generated");
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).expect("the last run's files can go");
        }
        fs::create_dir_all(&fresh).expect("there is a directory for the test");
        generate(root, &fresh);

        if env::var_os(UPDATE).is_some() {
            fs::create_dir_all(&checked_in).expect("proto/src can be written");
            for name in names(&checked_in) {
                fs::remove_file(checked_in.join(name)).expect("old code can go");
            }
            for name in names(&fresh) {
                fs::copy(fresh.join(&name), checked_in.join(&name))
                    .expect("new code can be written");
            }
        }

        let hint = format!("run: {UPDATE}=1 cargo test -p mesh-proto --test codegen");
        assert_eq!(names(&fresh), names(&checked_in), "{hint}");
        for name in names(&fresh) {
            let same = fs::read(fresh.join(&name)).ok() == fs::read(checked_in.join(&name)).ok();
            assert!(same, "proto/src/generated/{name} is stale; {hint}");
        }
    }
}
