//! `remap`: a VRL program decides what becomes of an event.
//!
//! `.` is the event as structured CloudEvents JSON. `abort "reason"` drops it with that reason, a
//! run-time error rejects it with reason `remap_error`, and an array emits several events. The
//! namespace is not part of `.`: no program can move an event to another tenant.
//!
//! A program sees nothing but the event ([`functions`]), and its variables end with the event.

use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use schemas::Event;
use serde::Deserialize;
use service::config::without_value;
use vrl::{
    compiler::{
        CompileConfig, ExpressionError, Program, TargetValueRef, TimeZone, compile_with_external,
        runtime::{Runtime, Terminate},
        state::ExternalEnv,
    },
    diagnostic::{DiagnosticList, Formatter},
    path::OwnedTargetPath,
    value::{Kind, ObjectMap, Secrets, Value, kind::Collection},
};

use crate::{Context, Events, Step, Verdict};

mod functions;
mod json;
mod value;

/// Events that one may become; more is a program gone wrong.
const MOST_CHILDREN: usize = 10_000;

/// Bytes of data that all of them may have: twice of what one may.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Expressions that a program may evaluate for an event: a second or so. A number and not a time, so that the
/// same event always gets the same verdict.
const MOST_WORK: u32 = 10_000_000;

/// The error code of a call to a function that is not there.
const UNDEFINED_FUNCTION: usize = 105;

thread_local! {
    /// Kept for the memory of its variables; cleared before each event.
    static RUNTIME: RefCell<Runtime> = RefCell::new(Runtime::default());
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// A path, relative to the configuration.
    file: Option<PathBuf>,
    /// The program itself.
    source: Option<String>,
}

/// A compiled program.
struct Remap {
    program: Program,
    used: value::Use,
    utc: TimeZone,
}

/// `"program.vrl"`, `{ file = "program.vrl" }` or `{ source = "..." }`.
pub(super) fn build(settings: &toml::Value, base_dir: &Path) -> Result<Box<dyn Step>, String> {
    let table = match settings {
        toml::Value::String(file) => Table { file: Some(file.into()), source: None },
        toml::Value::Table(_) => {
            settings.clone().try_into().map_err(|error: toml::de::Error| {
                let message = without_value(error.message());
                format!("{message}; `remap` takes `file` or `source`")
            })?
        }
        other => {
            return Err(format!("`remap` takes the path of a program, not {}", other.type_str()));
        }
    };
    let (name, source) = match table {
        Table { file: Some(file), source: None } => {
            let path = base_dir.join(file);
            let source = std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            (path.display().to_string(), source)
        }
        Table { file: None, source: Some(source) } => ("the program".to_owned(), source),
        _ => return Err("`remap` takes either `file` or `source`".to_owned()),
    };
    Ok(Box::new(Remap::compile(&name, &source)?))
}

impl Remap {
    fn compile(name: &str, source: &str) -> Result<Self, String> {
        let mut config = CompileConfig::default();
        config.set_read_only_path(OwnedTargetPath::metadata_root(), true);
        let external = ExternalEnv::new_with_kind(event_kind(), Kind::object(Collection::empty()));
        let compiled = compile_with_external(source, &functions::allowed(), &external, config)
            .map_err(|problems| explain(name, source, problems))?;
        if !compiled.warnings.is_empty() {
            let warnings = Formatter::new(source, compiled.warnings).to_string();
            tracing::warn!(program = name, "{}", warnings.trim());
        }
        let program = compiled.program;
        let used = value::Use::of(program.info(), source);
        let utc = TimeZone::parse("UTC").ok_or("the time zone UTC is not known")?;
        Ok(Self { program, used, utc })
    }

    fn run(&self, target: &mut Value) -> Result<Value, Terminate> {
        let mut metadata = Value::Object(ObjectMap::new());
        let mut secrets = Secrets::default();
        let mut target =
            TargetValueRef { value: target, metadata: &mut metadata, secrets: &mut secrets };
        let mut left = MOST_WORK;
        let mut budget = || match left.checked_sub(1) {
            Some(less) => {
                left = less;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        };
        RUNTIME.with_borrow_mut(|runtime| {
            runtime.clear();
            runtime.resolve_with_control(&mut target, &self.program, &self.utc, &mut budget)
        })
    }

    fn events(&self, value: Value, parent: Event) -> Result<Events, String> {
        let Value::Array(children) = value else {
            return value::to_event(value, parent, &self.used).map(Events::One);
        };
        if children.len() > MOST_CHILDREN {
            return Err(format!(
                "{} events of one; at most {MOST_CHILDREN} are allowed",
                children.len()
            ));
        }
        let (mut events, mut bytes) = (Vec::with_capacity(children.len()), 0);
        for (number, child) in children.into_iter().enumerate() {
            let mut event = value::to_event(child, parent.clone(), &self.used)
                .map_err(|detail| format!("event {number} of the array: {detail}"))?;
            if number > 0 && event.id == parent.id {
                event.id = format!("{}/{number}", parent.id);
            }
            bytes += event.data.size();
            if bytes > MOST_BYTES {
                return Err(format!("the events of one have more than {MOST_BYTES} bytes of data"));
            }
            events.push(event);
        }
        Ok(Events::Many(events))
    }
}

impl Step for Remap {
    fn apply(&self, _: &Context, event: Event) -> Verdict {
        let mut target = match value::to_value(&event, &self.used) {
            Ok(target) => target,
            Err(detail) => return rejected(detail),
        };
        match self.run(&mut target) {
            Ok(_) => match self.events(target, event) {
                Ok(Events::Many(events)) if events.is_empty() => Verdict::Drop("empty".into()),
                Ok(events) => Verdict::Emit(events),
                Err(detail) => rejected(detail),
            },
            Err(Terminate::Abort(ExpressionError::Abort { message, .. })) => {
                Verdict::Drop(message.map_or("aborted".into(), Into::into))
            }
            Err(Terminate::Interrupted) => rejected(format!(
                "the program evaluates more than {MOST_WORK} expressions for the event"
            )),
            Err(failure) => rejected(failure.to_string()),
        }
    }
}

fn rejected(detail: String) -> Verdict {
    Verdict::reject("remap_error", detail)
}

/// What the compiler may rely on: attributes are strings, data is any JSON.
fn event_kind() -> Kind {
    let text = || Kind::bytes();
    let optional = || Kind::bytes().or_undefined();
    Kind::object(
        Collection::empty()
            .with_known("specversion", text())
            .with_known("id", text())
            .with_known("source", text())
            .with_known("type", text())
            .with_known("time", text())
            .with_known("subject", optional())
            .with_known("datacontenttype", optional())
            .with_known("dataschema", optional())
            .with_known("data_base64", optional())
            .with_known("data", Kind::json().or_undefined())
            .with_unknown(optional()),
    )
}

/// Compile errors with their places in the program; for excluded functions, what to do instead.
fn explain(name: &str, source: &str, problems: DiagnosticList) -> String {
    let mut text = format!("{name} does not compile:");
    for problem in problems.iter().filter(|problem| problem.code == UNDEFINED_FUNCTION) {
        let called = problem.labels().first().and_then(|label| source.get(label.span.range()));
        if let Some((called, instead)) =
            called.and_then(|called| Some((called, functions::alternative(called)?)))
        {
            text.push_str(&format!("\n`{called}` cannot be used in a program: {instead}"));
        }
    }
    text.push_str(Formatter::new(source, problems).to_string().trim_end());
    text
}

#[cfg(test)]
mod tests;
