//! What can be typed after `agent`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mesh_coordinator::name::{MeshName, NodeName, OperatorName};
use mesh_telemetry::logs::{self, Format};

use crate::config::{Config, File};
use crate::{EXIT_USAGE, checks, founding, joining, run};

/// Cannot bind, join or start (sysexits.h, `EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: u8 = 69;

/// The agent of a mesh: one on every server.
#[derive(Debug, Parser)]
#[command(
    name = "agent",
    version,
    after_help = "Exit codes: 0 stopped as asked, 64 bad usage or setting, 69 cannot \
    start, 70 a part of the agent ended by itself."
)]
pub(crate) struct Cli {
    /// The file with settings; every setting can also be given as an environment variable, such as `MESH_DATA_DIR`.
    #[arg(long, global = true, env = "MESH_CONFIG", default_value = "/etc/agentmesh/agent.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// First server: creates a mesh and starts serving.
    Init(Init),
    /// Every further server: joins a mesh and starts serving.
    Join(Join),
    /// Serves: what the service manager starts.
    Run(Run),
    /// Says what this host lacks for running containers, and what to do about it.
    Check,
    /// Stops and removes all containers of this node, and what the agent made on the host; the data directory stays.
    Sweep,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The name of the mesh.
    #[arg(long, default_value = "mesh")]
    pub(crate) name: MeshName,
    /// The name of this node; the host's name unless given.
    #[arg(long)]
    pub(crate) node_name: Option<NodeName>,
    /// The name of the first operator.
    #[arg(long, default_value = "admin")]
    pub(crate) operator: OperatorName,
    /// Where the other servers reach this one, HOST:PORT or HOST.
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// Where agentctl finds its key and this mesh; its usual place unless given.
    #[arg(long)]
    pub(crate) operator_config: Option<PathBuf>,
    /// Create only; `agent run` serves.
    #[arg(long)]
    pub(crate) no_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The agent that made the token, HOST:PORT; the one in the token unless given.
    pub(crate) address: Option<String>,
    /// What `agentctl token create` printed.
    #[arg(long, env = "MESH_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// The name of this node; the host's name unless given.
    #[arg(long)]
    pub(crate) node_name: Option<NodeName>,
    /// Where the other servers reach this one, HOST:PORT or HOST.
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// Hold no replicas, ever: only vote and witness, so that two servers and a small third machine can lose any one. The setting
    /// `witness_only` changes it later.
    #[arg(long)]
    pub(crate) witness_only: bool,
    /// Join only; `agent run` serves.
    #[arg(long)]
    pub(crate) no_run: bool,
}

#[derive(Debug, Args)]
struct Run {
    /// Stop after the settings were read and checked.
    #[arg(long)]
    check_config: bool,
}

impl Cli {
    /// Does what was asked, and says in its exit code how it went.
    pub(crate) fn execute(self) -> ExitCode {
        let config = match File::load(&self.config)
            .and_then(|file| Config::try_from(file).map_err(Into::into))
        {
            Ok(config) => config,
            Err(error) => return fail(EXIT_USAGE, &error),
        };
        if let Err(error) =
            logs::start(&config.log, if config.log_json { Format::Json } else { Format::Text })
        {
            return fail(EXIT_USAGE, &error.into());
        }
        let done = match self.command {
            Command::Init(init) => founding::init(&config, &init)
                .and_then(|()| serve_unless(init.no_run, &config, &self.config)),
            Command::Join(join) => joining::join(&config, &join)
                .and_then(|()| serve_unless(join.no_run, &config, &self.config)),
            Command::Run(Run { check_config: true }) => Ok(ExitCode::SUCCESS),
            Command::Run(Run { check_config: false }) => run::serve(&config, &self.config),
            Command::Check => Ok(checks::report(&config)),
            Command::Sweep => run::sweep(&config).map(|()| ExitCode::SUCCESS),
        };
        done.unwrap_or_else(|error| fail(EXIT_UNAVAILABLE, &error))
    }
}

/// Serves at once, unless told not to.
fn serve_unless(no_run: bool, config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    if no_run { Ok(ExitCode::SUCCESS) } else { run::serve(config, file) }
}

#[expect(clippy::print_stderr, reason = "the one place where the agent says why it ends")]
fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("agent: {error:#}");
    ExitCode::from(code)
}
