//! Images that come blob by blob from another node.

use std::fs;

use mesh_ports::runtime::{ImageError, Images};

use super::bench::{Bench, build, feed, is_root};
use crate::image::build::{File, Format};
use crate::image::digest::Digest;

fn image() -> (Vec<u8>, String) {
    // Larger than one piece, so that a blob arrives in several.
    build(Format::OciLayout, vec![vec![File::new("data", 0o644, vec![b'x'; 200_000])]])
}

#[tokio::test]
async fn an_image_is_fetched_from_another_store_by_what_is_missing() {
    let (here, there) = (Bench::new(), Bench::new());
    let (archive, digest) = image();
    let imported = here.import(&archive).await.unwrap();
    assert_eq!(there.store.missing(&digest).await.unwrap(), [digest.as_str()]);
    let mut n_fetched = 0;
    for _round in 0..3 {
        for blob in there.store.missing(&digest).await.unwrap() {
            let pieces = here.store.read_blob(&blob).await.unwrap();
            there.store.put_blob(&blob, pieces).await.unwrap();
            n_fetched += 1;
        }
    }
    assert_eq!(n_fetched, 3, "manifest, configuration, layer");
    let mut images = there.store.images().await;
    assert!(images[0].names.is_empty());
    images[0].names.clone_from(&imported[0].names);
    assert_eq!(images, imported);
    if is_root() {
        there.store.unpack(&digest).await.unwrap();
    }
}

#[tokio::test]
async fn a_blob_with_another_digest_is_refused() {
    let bench = Bench::new();
    let (_, digest) = image();
    let before = bench.paths();
    let error = bench.store.put_blob(&digest, feed(b"something else")).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    // The sender went away before its first piece.
    let error = bench.store.put_blob(&digest, feed(b"")).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(bench.paths(), before);
}

#[tokio::test]
async fn what_is_no_digest_is_refused() {
    let bench = Bench::new();
    for text in [
        "",
        "sha256:",
        "sha512:00",
        "sha256:../../../etc/passwd",
        &format!("sha256:{}", "A".repeat(64)),
    ] {
        assert!(
            matches!(bench.store.missing(text).await, Err(ImageError::Invalid { .. })),
            "{text}"
        );
        assert!(bench.store.read_blob(text).await.is_err());
        assert!(bench.store.put_blob(text, feed(b"")).await.is_err());
        assert!(bench.store.rootfs(text).is_err());
    }
}

#[tokio::test]
async fn a_damaged_layer_is_found_and_missing_again() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let (archive, digest) = image();
    bench.import(&archive).await.unwrap();
    let largest = fs::read_dir(bench.dir.path().join("blobs/sha256")).unwrap().map(Result::unwrap);
    let layer = largest.max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(layer.path()).unwrap();
    bytes[100_000] ^= 1;
    fs::write(layer.path(), &bytes).unwrap();
    let error = bench.store.unpack(&digest).await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    assert_eq!(fs::read_dir(bench.dir.path().join("layers")).unwrap().count(), 0);
    let missing = bench.store.missing(&digest).await.unwrap();
    assert_eq!(missing, [format!("sha256:{}", layer.file_name().to_str().unwrap())]);
    assert_eq!(bench.store.damaged(), missing, "told once");
    assert!(bench.store.damaged().is_empty());
    bytes[100_000] ^= 1;
    bench.store.put_blob(&missing[0], feed(&bytes)).await.unwrap();
    bench.store.unpack(&digest).await.unwrap();
}

/// Who fetches it compares it too; but the one that has it must stop offering it.
#[tokio::test]
async fn a_damaged_layer_is_found_by_serving_it() {
    let (here, there) = (Bench::new(), Bench::new());
    let (archive, digest) = image();
    here.import(&archive).await.unwrap();
    let mut layer = String::new();
    for _round in 0..3 {
        for blob in there.store.missing(&digest).await.unwrap() {
            let mut bytes = fs::read(here.blob(&blob)).unwrap();
            if bytes.len() < 100_000 {
                let pieces = here.store.read_blob(&blob).await.unwrap();
                there.store.put_blob(&blob, pieces).await.unwrap();
                continue;
            }
            bytes[100_000] ^= 1;
            fs::write(here.blob(&blob), &bytes).unwrap();
            let pieces = here.store.read_blob(&blob).await.unwrap();
            let error = there.store.put_blob(&blob, pieces).await.unwrap_err();
            assert!(matches!(error, ImageError::Digest { .. }), "{error}");
            layer = blob;
            break;
        }
        if !layer.is_empty() {
            break;
        }
    }
    assert!(matches!(here.store.read_blob(&layer).await, Err(ImageError::Missing(_))));
    assert_eq!(here.store.damaged(), [layer]);
}

/// More pieces than wait for a reader, so that the blob is judged only when the test has taken them.
#[tokio::test]
async fn a_good_copy_that_came_while_a_damaged_one_was_served_stays() {
    let bench = Bench::new();
    let good = vec![b'x'; 1 << 20];
    let digest = Digest::of(&good).to_string();
    bench.store.put_blob(&digest, feed(&good)).await.unwrap();
    let path = bench.blob(&digest);
    let mut bytes = good.clone();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut pieces = bench.store.read_blob(&digest).await.unwrap();
    bench.store.put_blob(&digest, feed(&good)).await.unwrap();
    let mut served = Vec::new();
    while let Some(piece) = pieces.recv().await {
        served.extend_from_slice(&piece);
    }
    assert!(served == bytes, "the one that was opened");
    assert!(fs::read(&path).unwrap() == good, "the good one was removed");
    assert!(bench.store.damaged().is_empty());
}

#[tokio::test]
async fn damaged_documents_and_short_layers_are_missing_again() {
    let bench = Bench::new();
    let (archive, digest) = image();
    bench.import(&archive).await.unwrap();
    fs::write(bench.blob(&digest), b"{}").unwrap();
    assert_eq!(bench.store.missing(&digest).await.unwrap(), [digest.as_str()]);
    assert!(!bench.blob(&digest).exists());
    bench.import(&archive).await.unwrap();
    let layer = fs::read_dir(bench.dir.path().join("blobs/sha256")).unwrap().map(Result::unwrap);
    let layer = layer.max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    fs::OpenOptions::new().write(true).open(layer.path()).unwrap().set_len(100).unwrap();
    assert!(bench.store.images().await.is_empty());
    assert_eq!(bench.store.missing(&digest).await.unwrap().len(), 1);
}
