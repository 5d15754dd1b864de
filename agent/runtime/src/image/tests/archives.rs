//! Importing archives.

use std::fs;

use mesh_ports::runtime::{ImageError, Images};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::bench::{
    Bench, Layer, Raw, blob_path, build, documents, feed, is_root, layout, skipped,
};
use crate::image::build::{Build, File, Format, write_archive};
use crate::image::digest::Digest;
use crate::image::{Config, Store, manifest};

fn hello() -> Vec<Vec<File>> {
    vec![vec![File::new("bin/app", 0o755, "program")], vec![File::new("etc/motd", 0o644, "hello")]]
}

#[tokio::test]
async fn both_kinds_of_archives_are_the_same_image() {
    let mut seen = Vec::new();
    for format in [Format::OciLayout, Format::DockerSave] {
        let bench = Bench::new();
        let (archive, digest) = build(format, hello());
        let images = bench.import(&archive).await.unwrap();
        assert_eq!(images[0].digest, digest);
        assert_eq!(images[0].names, ["hello:1"]);
        assert_eq!(bench.store.images().await, images);
        assert!(bench.store.missing(&digest).await.unwrap().is_empty());
        let blobs = fs::read_dir(bench.dir.path().join("blobs/sha256")).unwrap();
        let sizes: u64 = blobs.map(|blob| blob.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(images[0].bytes, sizes, "only what belongs to the image is kept");
        assert_eq!(fs::read_dir(bench.dir.path().join("tmp")).unwrap().count(), 0);
        seen.push(images);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn the_configuration_comes_back() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let (archive, digest) = build(Format::DockerSave, hello());
    bench.import(&archive).await.unwrap();
    let rootfs = bench.store.rootfs(&digest).unwrap();
    assert_eq!(rootfs.config.entrypoint, ["/bin/app"]);
    assert_eq!(rootfs.config.cmd, ["serve"]);
    assert_eq!(rootfs.config.env, ["A=b"]);
    assert_eq!(rootfs.config.working_dir.as_deref(), Some("/srv"));
    assert_eq!(rootfs.config.user.as_deref(), Some("1000:1000"));
    assert_eq!(fs::read_to_string(rootfs.layers[0].join("etc/motd")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(rootfs.layers[1].join("bin/app")).unwrap(), "program");
}

#[test]
fn building_twice_gives_the_same_bytes() {
    assert_eq!(build(Format::OciLayout, hello()), build(Format::OciLayout, hello()));
}

#[test]
fn a_file_that_leaves_the_image_is_not_built() {
    let image = Build::new("x:1", Config::default(), vec![File::new("../x", 0o644, "")]);
    assert!(write_archive(std::io::sink(), &image).is_err());
}

#[tokio::test]
async fn an_archive_cut_short_is_refused_or_whole() {
    for format in [Format::OciLayout, Format::DockerSave] {
        let (archive, digest) = build(format, hello());
        let bench = Bench::new();
        let before = bench.paths();
        let (mut n_refused, mut n_whole) = (0, 0);
        for cut in (0..archive.len() - 1024).step_by(256) {
            match bench.import(&archive[..cut]).await {
                // Only what comes after everything that the image needs was lost.
                Ok(images) => {
                    assert_eq!(images[0].digest, digest);
                    assert!(bench.store.missing(&digest).await.unwrap().is_empty());
                    n_whole += 1;
                }
                Err(ImageError::Invalid { .. }) if n_whole == 0 => {
                    assert_eq!(bench.paths(), before, "cut at {cut}");
                    n_refused += 1;
                }
                Err(ImageError::Invalid { .. }) => {}
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
        assert!(n_refused > 10 && n_whole <= 2, "{n_refused} {n_whole}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let bench = Bench::new();
    let before = bench.paths();
    let (mut archive, _) = build(Format::OciLayout, hello());
    let at = archive.windows(7).position(|bytes| bytes == b"program").unwrap();
    archive[at] = b'P';
    let error = bench.import(&archive).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(bench.paths(), before);
}

#[tokio::test]
async fn archives_with_tricks_are_refused_and_leave_nothing() {
    let link_out = json!([{"Config": "c", "Layers": []}]).to_string();
    let huge = vec![b' '; 5 * 1024 * 1024];
    let both = json!({"manifests": [], "config": {"digest": format!("sha256:{}", "0".repeat(64)), "size": 1}, "layers": []});
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no tar", vec![b'x'; 2048]),
        ("a path with ..", Raw::default().file("../../etc/cron.d/x", b"x").end()),
        ("an absolute path", Raw::default().file("/etc/cron.d/x", b"x").end()),
        ("a device", Raw::default().entry(b'3', "sda", "", b"").end()),
        (
            "a link out",
            Raw::default()
                .symlink("c", "../../etc/passwd")
                .file("manifest.json", link_out.as_bytes())
                .end(),
        ),
        (
            "an absolute link",
            Raw::default()
                .symlink("c", "/etc/passwd")
                .file("manifest.json", link_out.as_bytes())
                .end(),
        ),
        (
            "a link to itself",
            Raw::default().symlink("c", "c").file("manifest.json", link_out.as_bytes()).end(),
        ),
        ("a file twice", Raw::default().file("index.json", b"{}").file("index.json", b"{}").end()),
        ("no image", Raw::default().file("index.json", br#"{"manifests":[]}"#).end()),
        ("a huge index", Raw::default().file("index.json", &huge).end()),
        (
            "an index that is a manifest",
            Raw::default().file("index.json", both.to_string().as_bytes()).end(),
        ),
        (
            "no blobs",
            Raw::default()
                .file(
                    "index.json",
                    json!({"manifests": [{"digest": Digest::of(b"").to_string(), "size": 0}]})
                        .to_string()
                        .as_bytes(),
                )
                .end(),
        ),
    ];
    let bench = Bench::new();
    let before = bench.paths();
    for (what, archive) in cases {
        let error = bench.import(&archive).await.unwrap_err();
        assert!(matches!(error, ImageError::Invalid { .. }), "{what}: {error}");
        assert_eq!(bench.paths(), before, "{what}");
    }
}

#[tokio::test]
async fn a_repeated_layer_behind_a_link_is_found() {
    let tar = Raw::default().file("a", b"a").end();
    let (config, _) = documents(
        manifest::architecture(),
        &[Layer::plain(tar.clone()), Layer::plain(tar.clone())],
    );
    let saved = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let archive = Raw::default()
        .file("one/layer.tar", &tar)
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", saved.to_string().as_bytes())
        .end();
    let bench = Bench::new();
    let digest = bench.one(&archive).await;
    if is_root() {
        assert_eq!(
            bench.store.rootfs(&digest).unwrap().layers.len(),
            1,
            "no directory twice in a mount"
        );
    }
}

#[tokio::test]
async fn a_layer_that_the_configuration_does_not_name_is_refused() {
    let mut layer = Layer::plain(Raw::default().file("a", b"a").end());
    layer.diff_id = Digest::of(b"another");
    let error = Bench::new().import(&layout(&[layer])).await.unwrap_err();
    assert!(error.to_string().contains("which the configuration names"), "{error}");
}

/// An index of manifests for these platforms, all in one archive behind a nested index, as buildx writes it.
fn platforms(architectures: &[&str]) -> Vec<u8> {
    let layers = [Layer::plain(Raw::default().file("a", b"a").end())];
    let mut archive = Raw::default().file(&blob_path(&layers[0].blob), &layers[0].blob);
    let mut entries = vec![json!({
        "digest": Digest::of(b"provenance").to_string(), "size": 10,
        "platform": {"os": "unknown", "architecture": "unknown"},
    })];
    for architecture in architectures {
        let (config, manifest) = documents(architecture, &layers);
        archive = archive.file(&blob_path(&config), &config).file(&blob_path(&manifest), &manifest);
        entries.push(json!({
            "digest": Digest::of(&manifest).to_string(), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let nested = json!({"manifests": entries}).to_string();
    let index = json!({"manifests": [{"digest": Digest::of(nested.as_bytes()).to_string(), "size": nested.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/web:2", "org.opencontainers.image.ref.name": "2"}}]});
    archive
        .file(&blob_path(nested.as_bytes()), nested.as_bytes())
        .file("index.json", index.to_string().as_bytes())
        .end()
}

#[tokio::test]
async fn of_several_platforms_this_machines_is_taken() {
    let bench = Bench::new();
    let images =
        bench.import(&platforms(&["mips", manifest::architecture(), "sparc"])).await.unwrap();
    assert_eq!(images[0].names, ["web:2"]);
    assert!(bench.store.missing(&images[0].digest).await.unwrap().is_empty());
    assert_eq!(bench.store.images().await, images);
}

#[tokio::test]
async fn an_image_for_other_machines_says_for_which() {
    let error = Bench::new().import(&platforms(&["mips", "sparc"])).await.unwrap_err();
    assert!(error.to_string().contains("linux/mips, linux/sparc"), "{error}");
}

#[tokio::test]
async fn a_name_moves_to_the_newer_image() {
    let bench = Bench::new();
    let old = bench.one(&build(Format::OciLayout, hello()).0).await;
    let new =
        bench.one(&build(Format::DockerSave, vec![vec![File::new("other", 0o644, "x")]]).0).await;
    let names = |digest: &str, images: &[mesh_ports::runtime::Image]| {
        images.iter().find(|image| image.digest == digest).unwrap().names.clone()
    };
    // Also after a restart.
    drop(bench.store);
    let images = Store::open(bench.dir.path()).unwrap().images().await;
    assert!(names(&old, &images).is_empty());
    assert_eq!(names(&new, &images), ["hello:1"]);
}

#[tokio::test]
async fn what_a_crash_left_is_cleared() {
    let Bench { store, dir } = Bench::new();
    let left = dir.path().join("tmp/layer-x/sub");
    fs::create_dir_all(&left).unwrap();
    let second = Store::open(dir.path()).unwrap();
    assert!(left.exists(), "somebody is still working");
    drop((store, second));
    drop(Store::open(dir.path()).unwrap());
    assert!(!dir.path().join("tmp/layer-x").exists());
}

#[tokio::test]
async fn imports_at_the_same_time_do_not_disturb_each_other() {
    let bench = Bench::new();
    let (archive, digest) = build(Format::OciLayout, hello());
    let import = || bench.store.import(feed(&archive));
    let (a, b, c) = tokio::join!(import(), import(), import());
    for images in [a, b, c] {
        assert_eq!(images.unwrap()[0].digest, digest);
    }
    assert!(bench.store.missing(&digest).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_leaves_the_store_as_it_was() {
    struct Mounted<'a>(&'a std::path::Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            umount2(self.0, MntFlags::MNT_DETACH).unwrap();
        }
    }
    if !is_root() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    if mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).is_err() {
        return skipped("right to mount");
    }
    let _mounted = Mounted(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let (small, digest) = build(Format::OciLayout, hello());
    store.import(feed(&small)).await.unwrap();
    let (large, _) =
        build(Format::OciLayout, vec![vec![File::new("big", 0o644, vec![7; 2 * 1024 * 1024])]]);
    let error = store.import(feed(&large)).await.unwrap_err();
    assert!(matches!(error, ImageError::Host { .. }), "{error}");
    assert_eq!(store.images().await.len(), 1);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    // The image fits, but not unpacked: 900 KiB of zeros.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let tar = Raw::default().file("zeros", &vec![0; 1024 * 1024]).end();
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let packed = layout(&[Layer { blob: gzip.finish().unwrap(), diff_id: Digest::of(&tar) }]);
    let packed = store.import(feed(&packed)).await.unwrap().remove(0).digest;
    let error = store.rootfs(&packed).unwrap_err();
    assert!(matches!(error, ImageError::Host { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    store.rootfs(&digest).unwrap();
}
