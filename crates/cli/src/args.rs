//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use grange_agent::devices::Instances;
use grange_agent::sandbox::Mode;
use grange_client::request::Cameras;
use grange_protocol::client::Role;
use grange_protocol::job::DeviceRequest;
use grange_protocol::shot::{Label, OutputPattern, Resolution};
use grange_protocol::{FrameSet, Priority, Schedule};

/// A render farm for Blender: render on this machine, or on all of yours.
#[derive(Debug, Parser)]
#[command(name = "grange", version, about, long_about = None, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 not done, 2 wrong command line, 3 no coordinator, 130 canceled"
)]
pub(crate) struct Cli {
    /// Print JSON, one value per line, instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The directory of the identity to act as [default: ~/.config/grange]
    #[arg(
        long,
        global = true,
        env = "GRANGE_IDENTITY",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(crate) identity: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Render a scene on this machine, nothing set up
    Render(Box<Render>),
    /// Be a farm of this machine alone, with the HTTP API, until told to stop
    Local(Local),
    /// Submit a scene to the farm
    Submit(Box<Submit>),
    /// List the farm's jobs
    Jobs,
    /// Show one job: its steps, what runs, what failed
    Job(JobArg),
    /// Follow a job, or the whole farm, as it happens
    Watch(Watch),
    /// Fill the terminal with the farm, live: jobs, agents, devices; keys act on jobs
    Top,
    /// Save a job's finished frames to a folder
    Fetch(Fetch),
    /// Stop jobs; finished frames are kept
    Cancel(JobArgs),
    /// Let jobs start nothing new; running frames finish
    Pause(JobArgs),
    /// Let paused jobs go on
    Resume(JobArgs),
    /// Try a job's failed, canceled and blocked tasks again
    Retry(JobArgs),
    /// Keep jobs and their files, however old they get
    Keep(JobArgs),
    /// Let jobs that were kept be collected like all others
    Release(JobArgs),
    /// Forget jobs that have ended, with their outputs and logs
    Delete(JobArgs),
    /// Set a job's priority, 0 (last) to 100 (first)
    Priority(SetPriority),
    /// List the farm's render hosts and their devices
    Agents(Agents),
    /// Drain, resume, tag, schedule or remove a render host
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show what scenes were measured to need: memory and time
    Footprints,
    /// Show what happened lately: to jobs, to render hosts, to the farm itself
    History(History),
    /// Show what Blender printed
    Logs(Logs),
    /// Let hosts, people and programs into the farm
    #[command(subcommand)]
    Token(Token),
    /// Who has joined the farm, and who is no member any more
    #[command(subcommand)]
    Member(MemberCommand),
    /// Join a farm with a join string
    Join(Join),
    /// Make a link to the farm's dashboard that signs one browser in
    Dashboard(Dashboard),
}

#[derive(Debug, Args)]
pub(crate) struct Render {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Where the frames go
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Render also the frames that are there already
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Make a preview video of the frames too (needs ffmpeg)
    #[arg(long)]
    pub(crate) preview: bool,
    /// Show the dashboard in this host's browser while it renders
    #[arg(long)]
    pub(crate) open: bool,
    #[command(flatten)]
    pub(crate) host: Host,
}

#[derive(Debug, Args)]
pub(crate) struct Local {
    #[command(flatten)]
    pub(crate) host: Host,
    /// RAM that Blenders may use together, in GiB, such as 24 or 1.5 [default: all of it]
    #[arg(long, env = "GRANGE_MEMORY_GIB", hide_env_values = true, value_name = "GIB")]
    pub(crate) memory_gib: Option<f64>,
    /// Stop as soon as standard input ends: the farm of a program dies with it, however it dies
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,
    /// What to log to standard error: error, warn, info, debug, trace, or tracing directives
    #[arg(
        long,
        env = "GRANGE_LOG",
        hide_env_values = true,
        value_name = "LEVEL",
        default_value = "error"
    )]
    pub(crate) log: String,
}

/// How this machine renders, where it is the farm.
#[derive(Debug, Args)]
pub(crate) struct Host {
    /// Blenders that render at once on each device; `auto` finds by measuring how many are best
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    pub(crate) instances: Instances,
    /// The Blender to use: an executable, or a Python that has the bpy module [default: what is found]
    #[arg(
        long,
        env = "GRANGE_BLENDER",
        hide_env_values = true,
        value_name = "PATH",
        value_delimiter = ','
    )]
    pub(crate) blender: Option<Vec<PathBuf>>,
    /// Lock Blender into bubblewrap; `off` lets the scene see this whole machine
    #[arg(
        long,
        env = "GRANGE_SANDBOX",
        hide_env_values = true,
        value_name = "on|off",
        default_value = "on"
    )]
    pub(crate) sandbox: Mode,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// What to call the job [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// 0 (last) to 100 (first)
    #[arg(long, value_name = "N", default_value = "50")]
    pub(crate) priority: Priority,
    /// Make no preview video
    #[arg(long)]
    pub(crate) no_preview: bool,
    /// Follow the job until it ends
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: save frames to this folder as they come
    #[arg(long, short, value_name = "DIR", requires = "wait")]
    pub(crate) output: Option<PathBuf>,
    /// Accept the job even if no agent that is online could run it
    #[arg(long)]
    pub(crate) queue_anyway: bool,
    /// Render only on hosts that have this tag; several: that have them all
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<Label>,
    /// Attempts of a frame before it counts as failed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) attempts: u8,
    /// Percent of the tasks that may fail before the job is given up
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) failed_max: u8,
    /// How long a render may show no sample and no change of memory, such as 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) stall: Duration,
}

/// What to render of a .blend file. What is not given stays as the file has it.
#[derive(Debug, Args)]
pub(crate) struct Scene {
    /// The scene
    #[arg(value_name = "SCENE.blend")]
    pub(crate) file: PathBuf,
    /// Frames, such as 47, 1-24, 1-100x4, or several with commas [default: the scene's range]
    #[arg(long, short, value_name = "FRAMES", allow_hyphen_values = true)]
    pub(crate) frames: Option<FrameSet>,
    /// Several pictures, each to its own name, from a file of [[shot]] tables
    #[arg(long, value_name = "SHOTS.toml", conflicts_with_all = ["cameras"])]
    pub(crate) shots: Option<PathBuf>,
    /// One picture per camera, called after it: `all`, or names with commas
    #[arg(long, value_name = "all|NAMES")]
    pub(crate) cameras: Option<Cameras>,
    /// The scene in the file
    #[arg(long, value_name = "NAME")]
    pub(crate) scene: Option<String>,
    /// Render this view layer alone
    #[arg(long, value_name = "NAME")]
    pub(crate) view_layer: Option<String>,
    /// Render with this camera instead of the scene's own
    #[arg(long, value_name = "NAME")]
    pub(crate) camera: Option<String>,
    /// Such as 1920x1080
    #[arg(long, value_name = "WxH")]
    pub(crate) resolution: Option<Resolution>,
    /// Samples per pixel
    #[arg(long, value_name = "N")]
    pub(crate) samples: Option<u32>,
    /// The pictures' name without extension; a run of # is the frame's number
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["shots", "cameras"])]
    pub(crate) pattern: Option<OutputPattern>,
    /// Frames that one instance renders in a row
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunk: u32,
    /// Go on although files are missing that the scene names
    #[arg(long)]
    pub(crate) allow_missing: bool,
    /// Where Cycles computes: any, cpu, cuda, optix, hip, oneapi, metal
    #[arg(long, value_name = "DEVICE", default_value = "any", value_parser = device)]
    pub(crate) device: DeviceRequest,
    /// Keep the scene's data between frames: faster, but takes memory [default: as memory allows]
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    pub(crate) persistent_data: Option<bool>,
    /// Render in tiles, so that a long frame stops within a second: 3 to 15 % slower [default: for
    /// frames of minutes]
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    pub(crate) tiles: Option<bool>,
    /// See every few samples also of scenes without adaptive sampling; changes pixels by 1e-6 at most
    #[arg(long)]
    pub(crate) fine_progress: bool,
    /// Render without denoising where Blender was built without the denoiser
    #[arg(long)]
    pub(crate) allow_no_denoiser: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JobArg {
    /// Its number, as `grange jobs` shows it
    #[arg(value_name = "JOB")]
    pub(crate) job: u32,
}

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Their numbers, as `grange jobs` shows them
    #[arg(value_name = "JOB", required = true)]
    pub(crate) jobs: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The job [default: the whole farm]
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// Its number, as `grange jobs` shows it
    #[arg(value_name = "JOB")]
    pub(crate) job: u32,
    /// Where the frames go
    #[arg(long, short, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Go on until the job ends, saving frames as they come
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SetPriority {
    /// Its number, as `grange jobs` shows it
    #[arg(value_name = "JOB")]
    pub(crate) job: u32,
    /// 0 (last) to 100 (first)
    #[arg(value_name = "PRIORITY")]
    pub(crate) priority: Priority,
}

#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// Show what was decided about their devices, and why: of one agent, or of all
    #[arg(long, value_name = "AGENT", num_args = 0..=1)]
    pub(crate) why: Option<Option<String>>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only of jobs
    #[arg(long, group = "about")]
    pub(crate) jobs: bool,
    /// Only of render hosts
    #[arg(long, group = "about")]
    pub(crate) agents: bool,
    /// Only of the farm itself: its coordinator, its storage, who may do what
    #[arg(long, group = "about")]
    pub(crate) farm: bool,
    /// Only of one job, also of one that is gone
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<u32>,
    /// Only of one host: its name, or its id
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Lines at most, the latest ones
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Go on as things happen, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Its number, as `grange jobs` shows it
    #[arg(value_name = "JOB")]
    pub(crate) job: u32,
    /// One task: its number, or STEP/NUMBER, as `grange job` shows it
    #[arg(long, value_name = "TASK", value_parser = task)]
    pub(crate) task: Option<(u16, u32)>,
    /// Only of attempts that failed
    #[arg(long)]
    pub(crate) failed: bool,
}

/// Hosts are named as `grange agents` shows them, or by their id.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Give hosts nothing more; they finish what they have begun
    Drain {
        #[arg(value_name = "AGENT", required = true)]
        agents: Vec<String>,
    },
    /// Give drained hosts tasks again
    Resume {
        #[arg(value_name = "AGENT", required = true)]
        agents: Vec<String>,
    },
    /// Remove hosts from the farm; what they render goes to others
    Remove {
        #[arg(value_name = "AGENT", required = true)]
        agents: Vec<String>,
    },
    /// Give a host these tags and no others; `grange submit --tag` asks for them
    Tag {
        #[arg(value_name = "AGENT")]
        agent: String,
        #[arg(value_name = "TAG")]
        tags: Vec<Label>,
    },
    /// Say when a host takes tasks
    Schedule {
        #[arg(value_name = "AGENT")]
        agent: String,
        /// Hours of a week in the coordinator's local time, such as "mon-fri 19:00-07:00, sat-sun"
        #[arg(value_name = "HOURS", required_unless_present = "always")]
        hours: Option<Schedule>,
        /// At any time
        #[arg(long, conflicts_with = "hours")]
        always: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a join string, good for one newcomer, or with --api a token of the HTTP API
    Create(CreateToken),
    /// The tokens of the HTTP API
    List,
    /// Make a token of the HTTP API good for nothing
    Revoke {
        /// As `grange token list` shows it
        #[arg(value_name = "NAME")]
        name: Label,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Everybody who has joined: people, programs and render hosts
    List,
    /// Strike members off: they are unknown from now on, and to come back they join anew
    Remove {
        /// As `grange member list` shows them, or their ids
        #[arg(value_name = "MEMBER", required = true)]
        members: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateToken {
    /// What the newcomer may do: agent, submitter, admin, or viewer, who changes nothing
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Role,
    /// Make a connect string for the HTTP API, good for any number of uses until its time is over
    #[arg(long)]
    pub(crate) api: bool,
    /// What the token of the HTTP API is called; jobs tell it as who submitted them [default:
    /// user@host]
    #[arg(long, value_name = "NAME", requires = "api")]
    pub(crate) name: Option<Label>,
    /// How long it can be used, such as 15m or 30d [default: 15m, with --api 30d]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The whole line that `grange token create` printed
    #[arg(value_name = "JOIN-STRING")]
    pub(crate) join: String,
    /// What the farm calls you [default: user@host]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Dashboard {
    /// Open it in this host's browser
    #[arg(long)]
    pub(crate) open: bool,
}

pub(crate) fn parse() -> Cli {
    Cli::parse()
}

fn device(text: &str) -> Result<DeviceRequest, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "any" => DeviceRequest::Any,
        "cpu" => DeviceRequest::Cpu,
        "cuda" => DeviceRequest::Cuda,
        "optix" => DeviceRequest::Optix,
        "hip" => DeviceRequest::Hip,
        "oneapi" => DeviceRequest::OneApi,
        "metal" => DeviceRequest::Metal,
        _ => return Err("any, cpu, cuda, optix, hip, oneapi or metal".into()),
    })
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".into()),
    }
}

fn task(text: &str) -> Result<(u16, u32), String> {
    let (step, task) = text.split_once('/').unwrap_or(("0", text));
    match (step.parse(), task.parse()) {
        (Ok(step), Ok(task)) => Ok((step, task)),
        _ => Err("a task is a number, or STEP/NUMBER".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every page of help, as a person reads it at 100 columns.
    #[test]
    fn help_reads_well() {
        let mut root = Cli::command().term_width(100);
        root.build();
        let mut pages = vec![root.clone().render_help().to_string()];
        let not_help = |command: &&mut clap::Command| command.get_name() != "help";
        for command in root.get_subcommands_mut().filter(not_help) {
            pages.push(command.render_help().to_string());
            for inner in command.get_subcommands_mut().filter(not_help) {
                pages.push(inner.render_help().to_string());
            }
        }
        insta::assert_snapshot!(pages.join("\n──────\n"));
    }
}
