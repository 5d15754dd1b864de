//! The packer as people call it.

#[cfg(test)]
mod tests {
    //! Each test packs the program beside it.

    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    use tempfile::TempDir;

    fn pack(args: &[&str], out: &Path, file: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pack-image"));
        command
            .args(["--name", "hello:1", "--entrypoint", "/hello"])
            .args(args)
            .arg(out)
            .arg(file)
            .output()
            .unwrap()
    }

    #[test]
    fn the_same_program_gives_the_same_image_in_both_forms() {
        let dir = TempDir::new().unwrap();
        let hello = concat!(env!("CARGO_BIN_EXE_hello"), "=/hello");
        let (one, two, old) =
            (dir.path().join("1.tar"), dir.path().join("2.tar"), dir.path().join("old.tar"));
        let digest = pack(&[], &one, hello).stdout;
        assert!(digest.starts_with(b"sha256:") && digest.len() == 72, "{digest:?}");
        assert_eq!(pack(&[], &two, hello).stdout, digest);
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        assert_eq!(pack(&["--format", "docker"], &old, hello).stdout, digest);
        assert_ne!(pack(&["--env", "A=b"], &two, hello).stdout, digest);
    }

    #[test]
    fn what_cannot_be_packed_leaves_no_archive() {
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("out.tar");
        for file in
            ["/does/not/exist=/hello", "/", concat!(env!("CARGO_BIN_EXE_hello"), "=/../hello")]
        {
            let output = pack(&[], &out, file);
            assert!(!output.status.success() && !output.stderr.is_empty(), "{file}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
