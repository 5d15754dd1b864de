//! Makes an image archive of static binaries (and other files), with no Docker: `docker load` and `agentctl image push` take it.
//!
//! The same files give the same bytes, so the same image.

use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use mesh_runtime::image::Config;
use mesh_runtime::image::build::{Build, Content, File, Format, write_archive};
use tempfile::NamedTempFile;

/// Makes an image archive of static binaries and other files.
#[derive(Debug, Parser)]
struct Args {
    /// The name of the image with its tag, `hello:1`.
    #[arg(long)]
    name: String,
    /// The program to run; given again, its first arguments.
    #[arg(long, required = true, allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// An argument that the manifest may replace; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// An environment variable, `NAME=value`; may be given several times.
    #[arg(long)]
    env: Vec<String>,
    /// Who runs it, `user[:group]`; root if not given.
    #[arg(long)]
    user: Option<String>,
    /// The directory in which it starts; `/` if not given.
    #[arg(long)]
    workdir: Option<String>,
    /// The form of the archive.
    #[arg(long, value_enum, default_value_t = Form::Oci)]
    format: Form,
    /// The archive to write.
    out: PathBuf,
    /// The files, `FILE` or `FILE=/path/in/the/image`; without a path a file goes to the root.
    #[arg(required = true)]
    files: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// An OCI layout, which Docker reads too.
    Oci,
    /// The older form of `docker save`.
    Docker,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for variable in &args.env {
        ensure!(variable.contains('='), "--env {variable}: NAME=value is needed");
    }
    let files: Vec<File> = args.files.iter().map(|given| file(given)).collect::<Result<_>>()?;
    let config = Config {
        entrypoint: args.entrypoint,
        cmd: args.cmd,
        env: args.env,
        working_dir: args.workdir,
        user: args.user,
    };
    let mut image = Build::new(&args.name, config, files);
    image.format = match args.format {
        Form::Oci => Format::OciLayout,
        Form::Docker => Format::DockerSave,
    };
    let digest =
        write(&image, &args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    writeln!(io::stdout(), "{digest}")?;
    Ok(())
}

/// Writes the archive beside its place first, so that there is never half of one.
fn write(image: &Build, to: &Path) -> Result<String> {
    let dir =
        to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut archive = NamedTempFile::new_in(dir)?;
    let digest = write_archive(BufWriter::new(&mut archive), image)?;
    archive.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
    archive.persist(to)?;
    Ok(digest)
}

/// A file as it is given on the command line.
fn file(given: &str) -> Result<File> {
    let (source, path) = match given.rsplit_once("=/") {
        Some((source, path)) => (Path::new(source), path.to_owned()),
        None => {
            let name = Path::new(given).file_name().and_then(|name| name.to_str());
            (Path::new(given), name.with_context(|| format!("{given} is not a file"))?.to_owned())
        }
    };
    let metadata =
        source.metadata().with_context(|| format!("cannot read {}", source.display()))?;
    ensure!(metadata.is_file(), "{} is not a file", source.display());
    // Only whether it is a program is taken over: the rest depends on whose checkout it is.
    let mode = if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
    Ok(File { path, mode, content: Content::Path(source.to_path_buf()) })
}
