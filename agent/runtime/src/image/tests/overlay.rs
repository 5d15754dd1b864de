//! Layers together, mounted as a container sees them.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::bench::{Bench, Layer, Raw, is_root, layout, skipped};
use crate::image::Rootfs;

struct Mounted {
    dir: TempDir,
}

impl Mounted {
    fn new(rootfs: &Rootfs) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        for part in ["upper", "work", "root"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        let lower: Vec<String> =
            rootfs.layers.iter().map(|layer| layer.display().to_string()).collect();
        let at = dir.path().display();
        let options = format!("lowerdir={},upperdir={at}/upper,workdir={at}/work", lower.join(":"));
        let root = dir.path().join("root");
        match mount(
            Some("overlay"),
            &root,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        ) {
            Ok(()) => Some(Self { dir }),
            Err(error) => {
                skipped(&format!("overlay mounts ({error})"));
                None
            }
        }
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join("root").join(path)).ok()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let dir: &Path = &self.dir.path().join("root").join(path);
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.dir.path().join("root"), MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test]
async fn an_upper_layer_removes_what_a_lower_one_has() {
    if !is_root() {
        return;
    }
    let lower = Raw::default()
        .file("kept", b"lower")
        .file("replaced", b"lower")
        .file("removed", b"lower")
        .file("removed-and-back", b"lower")
        .file("gone/deep/file", b"lower")
        .file("opaque/old", b"lower")
        .file("remade/old", b"lower")
        .file("remade-late/old", b"lower")
        .end();
    let upper = Raw::default()
        .file("replaced", b"upper")
        .file(".wh.removed", b"")
        .file(".wh.removed-and-back", b"")
        .file("removed-and-back", b"upper")
        .file(".wh.gone", b"")
        .file("opaque/new", b"upper")
        .file("opaque/.wh..wh..opq", b"")
        .file(".wh.remade", b"")
        .dir("remade")
        .file("remade/new", b"upper")
        .dir("remade-late")
        .file("remade-late/new", b"upper")
        .file(".wh.remade-late", b"")
        .file(".wh..wh.plnk", b"")
        .end();
    let bench = Bench::new();
    let digest = bench.one(&layout(&[Layer::plain(lower), Layer::plain(upper)])).await;
    let Some(mounted) = Mounted::new(&bench.store.rootfs(&digest).unwrap()) else { return };
    assert_eq!(mounted.read("kept").as_deref(), Some("lower"));
    assert_eq!(mounted.read("replaced").as_deref(), Some("upper"));
    assert_eq!(mounted.read("removed-and-back").as_deref(), Some("upper"));
    assert_eq!(
        mounted.names(""),
        ["kept", "opaque", "remade", "remade-late", "removed-and-back", "replaced"]
    );
    for dir in ["opaque", "remade", "remade-late"] {
        assert_eq!(mounted.names(dir), ["new"], "{dir}");
    }
}
