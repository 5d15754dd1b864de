//! What defines a container.

use std::time::Duration;

use mesh_coordinator::spec::{
    Bytes, Cpu, HealthTest, Healthcheck, ImageRef, Limits, RestartPolicy, StopSignal, Template,
};
use mesh_proto::v1;

use super::{
    Fault, Within as _, digest, filled, limit, plain, positive, read_map, required, write_map,
};

/// The longest span in a specification, a year: what is added to a clock must not overflow it.
const SPAN_MAX: Duration = Duration::from_hours(365 * 24);

pub(crate) fn write(template: &Template) -> v1::Template {
    v1::Template {
        image: Some(v1::ImageRef {
            name: template.image.name.clone(),
            digest: template.image.digest.clone(),
        }),
        entrypoint: template.entrypoint.clone().map(|words| v1::Words { words }),
        command: template.command.clone().map(|words| v1::Words { words }),
        environment: write_map(&template.environment),
        working_dir: template.working_dir.clone(),
        user: template.user.clone(),
        hostname: template.hostname.clone(),
        labels: write_map(&template.labels),
        restart: Some(write_restart(template.restart)),
        healthcheck: template.healthcheck.as_ref().map(write_healthcheck),
        stop_signal: u32::from(template.stop_signal.number()),
        stop_grace: Some(write_span(template.stop_grace)),
        limits: Some(v1::Limits {
            cpu_millis: template.limits.cpu.map(|cpu| cpu.millis),
            memory_bytes: template.limits.memory.map(|memory| memory.0),
            pids: template.limits.pids,
        }),
    }
}

pub(crate) fn read(template: v1::Template) -> Result<Template, Fault> {
    let image = required("image", template.image)?;
    let image = ImageRef {
        name: filled("image.name", image.name)?,
        digest: digest("image.digest", image.digest)?,
    };
    let healthcheck = template.healthcheck.map(read_healthcheck).transpose();
    Ok(Template {
        image,
        entrypoint: read_words("entrypoint", template.entrypoint)?,
        command: read_words("command", template.command)?,
        environment: read_map("environment", template.environment, variable)?,
        working_dir: read_text("working_dir", template.working_dir)?,
        user: read_text("user", template.user)?,
        hostname: read_text("hostname", template.hostname)?,
        labels: read_map("labels", template.labels, label)?,
        restart: read_restart(required("restart", template.restart)?).within("restart")?,
        healthcheck: healthcheck.within("healthcheck")?,
        stop_signal: read_signal(template.stop_signal)?,
        stop_grace: read_span("stop_grace", template.stop_grace)?,
        limits: read_limits(required("limits", template.limits)?).within("limits")?,
    })
}

fn variable(name: &str) -> Result<String, &'static str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        Err("is not the name of a variable")
    } else {
        Ok(name.to_owned())
    }
}

fn label(key: &str) -> Result<String, &'static str> {
    if key.is_empty() || key.contains('\0') { Err("is not a label") } else { Ok(key.to_owned()) }
}

fn read_words(field: &str, words: Option<v1::Words>) -> Result<Option<Vec<String>>, Fault> {
    let Some(v1::Words { words }) = words else { return Ok(None) };
    words.into_iter().map(|word| plain(field, word)).collect::<Result<_, _>>().map(Some)
}

fn read_text(field: &str, text: Option<String>) -> Result<Option<String>, Fault> {
    text.map(|text| plain(field, text)).transpose()
}

fn read_signal(number: u32) -> Result<StopSignal, Fault> {
    let signal = u8::try_from(number).ok().and_then(StopSignal::from_number);
    signal.ok_or_else(|| Fault::new("stop_signal", format!("{number} is not a signal, 1 to 64")))
}

const fn write_span(span: Duration) -> v1::Span {
    v1::Span { seconds: span.as_secs(), nanos: span.subsec_nanos() }
}

fn read_span(field: &str, span: Option<v1::Span>) -> Result<Duration, Fault> {
    let v1::Span { seconds, nanos } = required(field, span)?;
    if nanos >= 1_000_000_000 {
        return Err(Fault::new(field, "has a whole second of nanoseconds"));
    }
    let span = Duration::new(seconds, nanos);
    if span <= SPAN_MAX { Ok(span) } else { Err(Fault::new(field, "is more than a year")) }
}

fn read_pause(field: &str, span: Option<v1::Span>) -> Result<Duration, Fault> {
    positive(field, read_span(field, span)?)
}

fn write_restart(policy: RestartPolicy) -> v1::RestartPolicy {
    use v1::restart_policy::Kind;
    let (kind, attempts_max) = match policy {
        RestartPolicy::Always => (Kind::Always, None),
        RestartPolicy::Never => (Kind::Never, None),
        RestartPolicy::OnFailure { attempts_max } => (Kind::OnFailure, attempts_max),
    };
    v1::RestartPolicy { kind: kind.into(), attempts_max }
}

fn read_restart(policy: v1::RestartPolicy) -> Result<RestartPolicy, Fault> {
    use v1::restart_policy::Kind;
    match (policy.kind(), policy.attempts_max) {
        (Kind::Always, None) => Ok(RestartPolicy::Always),
        (Kind::Never, None) => Ok(RestartPolicy::Never),
        (Kind::OnFailure, attempts_max) => Ok(RestartPolicy::OnFailure { attempts_max }),
        (Kind::Always | Kind::Never, Some(_)) => {
            Err(Fault::new("attempts_max", "goes only with restarts after a failure"))
        }
        (Kind::Unspecified, _) => Err(Fault::new("kind", "is none that is known here")),
    }
}

fn write_healthcheck(check: &Healthcheck) -> v1::Healthcheck {
    use v1::healthcheck::Test;
    v1::Healthcheck {
        test: Some(match &check.test {
            HealthTest::Exec(words) => Test::Exec(v1::Words { words: words.clone() }),
            HealthTest::Shell(line) => Test::Shell(line.clone()),
        }),
        interval: Some(write_span(check.interval)),
        timeout: Some(write_span(check.timeout)),
        retries: check.retries,
        start_period: Some(write_span(check.start_period)),
        start_interval: Some(write_span(check.start_interval)),
    }
}

fn read_healthcheck(check: v1::Healthcheck) -> Result<Healthcheck, Fault> {
    use v1::healthcheck::Test;
    let test = match required("test", check.test)? {
        Test::Exec(v1::Words { words }) => {
            if words.first().is_none_or(String::is_empty) {
                return Err(Fault::new("test", "names no program"));
            }
            let words = words.into_iter().map(|word| plain("test", word));
            HealthTest::Exec(words.collect::<Result<_, _>>()?)
        }
        Test::Shell(line) => HealthTest::Shell(filled("test", line)?),
    };
    Ok(Healthcheck {
        test,
        interval: read_pause("interval", check.interval)?,
        timeout: read_pause("timeout", check.timeout)?,
        retries: positive("retries", check.retries)?,
        start_period: read_span("start_period", check.start_period)?,
        start_interval: read_pause("start_interval", check.start_interval)?,
    })
}

fn read_limits(limits: v1::Limits) -> Result<Limits, Fault> {
    let cpu = limit("cpu_millis", limits.cpu_millis)?;
    Ok(Limits {
        cpu: cpu.map(|millis| Cpu { millis }),
        memory: limit("memory_bytes", limits.memory_bytes)?.map(Bytes),
        pids: limit("pids", limits.pids)?,
    })
}
