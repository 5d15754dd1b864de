//! Unpacking one layer.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use mesh_ports::runtime::ImageError;
use proptest::prelude::*;
use tempfile::TempDir;

use super::bench::{Bench, Layer, Raw, is_root, layout};
use crate::image::digest::Digest;
use crate::image::layer::{unpack_into, unpacked_len_max};

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

async fn unpacked(bench: &Bench, layer: Layer) -> Result<PathBuf, ImageError> {
    let digest = bench.one(&layout(&[layer])).await;
    bench.store.rootfs(&digest).map(|mut rootfs| rootfs.layers.remove(0))
}

/// Layers that reach for what is outside of them.
fn escaping() -> Vec<(&'static str, Vec<u8>)> {
    let raw = Raw::default;
    vec![
        ("an absolute path", raw().file("/escaped", b"x").end()),
        ("a path with ..", raw().file("a/../../escaped", b"x").end()),
        ("a file through a link", raw().symlink("out", "..").file("out/escaped", b"x").end()),
        (
            "a file through an absolute link",
            raw().symlink("out", "/tmp").file("out/escaped", b"x").end(),
        ),
        (
            "a file through two links",
            raw()
                .dir("d")
                .symlink("d/up", "..")
                .symlink("out", "d/up/..")
                .file("out/escaped", b"x")
                .end(),
        ),
        ("a directory through a link", raw().symlink("out", "..").dir("out/escaped").end()),
        (
            "a directory over a link",
            raw().symlink("out", "..").dir("out/").file("out/../escaped", b"x").end(),
        ),
        ("a hard link to an absolute path", raw().entry(b'1', "a", "/etc/passwd", b"").end()),
        ("a hard link with ..", raw().entry(b'1', "a", "../canary", b"").end()),
        (
            "a hard link through a link",
            raw().symlink("out", "..").entry(b'1', "a", "out/canary", b"").end(),
        ),
        ("a hard link to nothing", raw().entry(b'1', "a", "nothing", b"").end()),
        ("a hard link to a directory", raw().dir("d").entry(b'1', "a", "d", b"").end()),
        ("a hard link to the root", raw().entry(b'1', "a", ".", b"").end()),
        ("a symbolic link to nothing", raw().symlink("a", "").end()),
        ("a whiteout of ..", raw().file(".wh...", b"").end()),
        ("a whiteout of .", raw().file("d/.wh..", b"").end()),
        ("a whiteout of nothing", raw().file(".wh.", b"").end()),
    ]
}

/// Layers that are no sound archives.
fn unsound() -> Vec<(&'static str, Vec<u8>)> {
    let raw = Raw::default;
    vec![
        ("a root that is a file", raw().file(".", b"x").end()),
        ("a file in a file", raw().file("a", b"x").file("a/b", b"x").end()),
        ("a directory that becomes a file", raw().dir("a").file("a", b"x").end()),
        ("a zero byte", raw().pax(&[("path", b"a\0b")]).file("a", b"x").end()),
        (
            "a path with .. in an extended header",
            raw().pax(&[("path", b"../escaped")]).file("a", b"x").end(),
        ),
        (
            "a long name with ..",
            raw().entry(b'L', "././@LongLink", "", b"../escaped\0").file("a", b"x").end(),
        ),
        (
            "a damaged extended header",
            raw().entry(b'x', "pax", "", b"99 path=a\n").file("a", b"x").end(),
        ),
        (
            "an extended header of negative length",
            raw().entry(b'x', "pax", "", b"-1 path=a\n").file("a", b"x").end(),
        ),
        (
            "an endless extended header",
            raw().entry(b'x', "pax", "", &vec![b'1'; 2 * 1024 * 1024]).file("a", b"x").end(),
        ),
        ("a huge name", raw().with(b'L', "././@LongLink", |header| header.set_size(1 << 40)).end()),
        ("a sparse file", raw().with(b'S', "a", |_| {}).end()),
        (
            "a sparse file in an extended header",
            raw().pax(&[("GNU.sparse.major", b"1")]).file("a", b"x").end(),
        ),
        ("an unknown kind", raw().with(b'Z', "a", |_| {}).end()),
        ("an owner that is none", raw().pax(&[("uid", b"4294967295")]).file("a", b"x").end()),
        ("an owner beyond all", raw().pax(&[("gid", b"99999999999")]).file("a", b"x").end()),
        (
            "more bytes than there are",
            raw().with(b'0', "a", |header| header.set_size(4096)).open_end(),
        ),
        (
            "more bytes than there are, in an extended header",
            raw().pax(&[("size", b"999999")]).file("a", b"x").end(),
        ),
        ("half a header", raw().file("a", b"x").open_end()[..300].to_vec()),
        ("no tar", vec![b'x'; 1024]),
    ]
}

#[tokio::test]
async fn malicious_layers_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let canary = bench.dir.path().join("tmp/canary");
    for (what, tar) in escaping().into_iter().chain(unsound()) {
        fs::write(&canary, "alive").unwrap();
        for layer in [Layer { blob: gzip(&tar), diff_id: Digest::of(&tar) }, Layer::plain(tar)] {
            let error = unpacked(&bench, layer).await.unwrap_err();
            assert!(matches!(error, ImageError::Invalid { .. }), "{what}: {error}");
            let left = bench.paths();
            assert!(
                left.iter().all(|path| !path.contains("escaped") && !path.contains("layers/")),
                "{what}"
            );
            assert!(!left.iter().any(|path| path.contains("tmp/layer-")), "{what}");
            assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1, "{what}");
            assert_eq!(fs::read_to_string(&canary).unwrap(), "alive", "{what}");
        }
    }
    assert!(!PathBuf::from("/tmp/escaped").exists());
}

#[tokio::test]
async fn whiteouts_below_what_is_no_directory_do_nothing() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let outside = bench.dir.path().join("tmp/canary");
    fs::write(&outside, "alive").unwrap();
    let tar = Raw::default()
        .file("file", b"x")
        .file("file/.wh.old", b"")
        .symlink("out", "..")
        .file("out/.wh.canary", b"")
        .file("out/.wh.other", b"")
        .file("out/.wh..wh..opq", b"")
        .end();
    let root = unpacked(&bench, Layer::plain(tar)).await.unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    assert_eq!(fs::read_to_string(outside).unwrap(), "alive");
    for dir in ["layers", "tmp"] {
        let dir = bench.dir.path().join(dir);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{}", dir.display());
        assert_eq!(xattr::get(&dir, "trusted.overlay.opaque").unwrap(), None);
    }
}

#[tokio::test]
async fn everything_about_a_file_is_kept() {
    if !is_root() {
        return;
    }
    // A capability whose bytes contain a line feed, at which careless readers stop.
    let capability =
        b"\x01\x00\x00\x02\x0a\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x00";
    let long = "d/".to_owned() + &"n".repeat(200);
    let tar = Raw::default()
        .with(b'5', "./", |header| header.set_mode(0o711))
        .with(b'5', "d/", |header| {
            header.set_mode(0o1777);
            header.set_mtime(500);
        })
        .pax(&[
            ("uid", b"70000"),
            ("mtime", b"12345.5"),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ])
        .with(b'0', "d/su", |header| {
            header.set_mode(0o4755);
            header.set_gid(12);
        })
        .entry(b'1', "d/again", "d/su", b"")
        .symlink("d/link", "/anywhere/at/all")
        .entry(b'6', "d/pipe", "", b"")
        .entry(b'3', "d/device", "", b"")
        .entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes())
        .file("d/cut", b"long")
        .file("implied/parent/file", b"first")
        .file("implied/parent/file", b"second")
        .end();
    let bench = Bench::new();
    let root = unpacked(&bench, Layer::plain(tar)).await.unwrap();
    let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(stat("").permissions().mode() & 0o7777, 0o711);
    assert_eq!(stat("d").permissions().mode() & 0o7777, 0o1777);
    assert_eq!(stat("d").mtime(), 500, "not the time of the last file in it");
    let su = stat("d/su");
    assert_eq!((su.permissions().mode() & 0o7777, su.uid(), su.gid()), (0o4755, 70000, 12));
    assert_eq!((su.mtime(), su.mtime_nsec()), (12345, 500_000_000));
    assert_eq!((su.ino(), su.nlink()), (stat("d/again").ino(), 2));
    let xattr = |name: &str| xattr::get(root.join("d/su"), name).unwrap();
    assert_eq!(xattr("user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(xattr("security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(xattr("trusted.overlay.redirect"), None);
    assert_eq!(fs::read_link(root.join("d/link")).unwrap(), PathBuf::from("/anywhere/at/all"));
    assert!(stat("d/pipe").file_type().is_fifo());
    assert!(!root.join("d/device").exists());
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "long");
    assert_eq!(fs::read_to_string(root.join("implied/parent/file")).unwrap(), "second");
}

#[tokio::test]
async fn a_layer_is_unpacked_once_however_it_is_compressed() {
    if !is_root() {
        return;
    }
    let tar = Raw::default().file("a", &vec![b'a'; 100_000]).end();
    let diff_id = Digest::of(&tar);
    let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
    let bench = Bench::new();
    let mut dirs = Vec::new();
    for blob in [zstd, gzip(&tar), tar.clone()] {
        dirs.push(unpacked(&bench, Layer { blob, diff_id: diff_id.clone() }).await.unwrap());
    }
    assert!(dirs.iter().all(|dir| *dir == dirs[0]));
    assert_eq!(fs::read(dirs[0].join("a")).unwrap().len(), 100_000);
}

#[tokio::test]
async fn every_encoding_unpacks_the_same() {
    if !is_root() {
        return;
    }
    let tar = Raw::default().file("a", &vec![b'a'; 100_000]).end();
    for blob in [zstd::encode_all(tar.as_slice(), 19).unwrap(), gzip(&tar), tar.clone()] {
        let dir = unpacked(&Bench::new(), Layer { blob, diff_id: Digest::of(&tar) }).await;
        drop(dir.unwrap());
    }
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    if !is_root() {
        return;
    }
    let blob = gzip(&Raw::default().file("a", b"a").end());
    let bench = Bench::new();
    let error =
        unpacked(&bench, Layer { blob, diff_id: Digest::of(b"another") }).await.unwrap_err();
    assert!(matches!(error, ImageError::Invalid { .. }), "{error}");
    assert_eq!(fs::read_dir(bench.dir.path().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_bomb_stops_at_its_bound() {
    if !is_root() {
        return;
    }
    let bomb = zstd::encode_all(&*Raw::default().file("zeros", &vec![0; 8 * 1024 * 1024]).end(), 3)
        .unwrap();
    let dir = TempDir::new().unwrap();
    let error =
        unpack_into(dir.path(), &mut Cursor::new(bomb), 1024 * 1024, "the layer").unwrap_err();
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
    assert!(fs::metadata(dir.path().join("zeros")).unwrap().len() <= 1024 * 1024);
    // Also when the zeros come after the end of the tar, where nothing is written.
    let mut tail = Raw::default().file("a", b"").end();
    tail.resize(8 * 1024 * 1024, 0);
    let dir = TempDir::new().unwrap();
    let tail = zstd::encode_all(tail.as_slice(), 3).unwrap();
    assert!(unpack_into(dir.path(), &mut Cursor::new(tail), 1024 * 1024, "the layer").is_err());
}

#[test]
fn the_bound_grows_with_the_layer_and_ends() {
    assert!(unpacked_len_max(100) < 2 << 30);
    assert!(unpacked_len_max(100 << 20) > 10 << 30);
    assert_eq!(unpacked_len_max(u64::MAX), 64 << 30);
}

/// Paths of few names, so that entries meet one another.
fn any_path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "a",
        "b",
        "a",
        "b",
        ".",
        "..",
        "",
        ".wh.a",
        ".wh..",
        ".wh..wh..opq",
        "canary",
    ]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_sequence_of_entries_reaches_outside(
        entries in prop::collection::vec((prop::sample::select(b"0000125556".to_vec()), any_path(), any_path()), 1..12),
    ) {
        if nix::unistd::geteuid().is_root() {
            let outside = TempDir::new().unwrap();
            let (canary, root) = (outside.path().join("canary"), outside.path().join("root"));
            fs::write(&canary, "alive").unwrap();
            fs::create_dir(&root).unwrap();
            let mut tar = Raw::default();
            for (kind, path, link) in &entries {
                tar = tar.entry(*kind, path, link, if *kind == b'0' { b"data" } else { b"" });
            }
            // Whether it is accepted does not matter here; that no refusal is the host's fault does.
            let outcome = unpack_into(&root, &mut Cursor::new(tar.end()), 1024 * 1024, "the layer");
            prop_assert!(matches!(outcome, Ok(_) | Err(ImageError::Invalid { .. })), "{:?}", outcome);
            prop_assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
            prop_assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
            prop_assert_eq!(fs::metadata(&canary).unwrap().nlink(), 1);
            prop_assert_eq!(xattr::get(outside.path(), "trusted.overlay.opaque").unwrap(), None);
        }
    }
}
