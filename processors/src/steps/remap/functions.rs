//! The functions a program may call: the VRL standard library without everything whose answer
//! depends on more than the event.
//!
//! Not in here: clocks, random numbers, the environment, the network, files, the process's own
//! logs. The absence is checked by a test that goes through the library as it is, so that an
//! upgrade which brings new functions has to be looked at.
//!
//! Nor is what unfolds a small event to any size; where a call's arguments tell how much it makes, [`bounds`]
//! looks at them first. Operators (`"x" * n`) are the program's own matter.

mod bounds;

use vrl::{
    compiler::{Function, function::Compiled, prelude::*},
    diagnostic::DiagnosticMessage,
    path::OwnedTargetPath,
};

const NEW_ID: &str = "derive it from the event, such as `.id + \"/child\"`; events emitted in an array are named after their parent by themselves";
const RANDOM: &str =
    "derive the value from the event, such as a checksum of `.id`; a retry must get the same one";
const YEAR: &str = "it takes the missing year from the clock; use `parse_regex` and `parse_timestamp` with the year of `.time`";
const SECRET: &str = "a step has no secrets; use a step made for keyed hashing";
const TABLE: &str = "a program has no tables; put the mapping into the program as an object";
const LOOKUP: &str = "resolve it before the event is posted";
const UNFOLDS: &str = "what it unfolds to may have any size; post the event unfolded, or the whole request with a `Content-Encoding`";
const FILE: &str = "it reads files of its own at run time; write the rule in the program";

/// Functions that must not be called, with what to do instead. Some are not in this build of the
/// library at all; they are named so that the error explains itself.
pub(super) const EXCLUDED: &[(&str, &str)] = &[
    ("decode_gzip", UNFOLDS),
    ("decode_lz4", UNFOLDS),
    ("decode_snappy", UNFOLDS),
    ("decode_zlib", UNFOLDS),
    ("decode_zstd", UNFOLDS),
    ("dns_lookup", LOOKUP),
    ("encode_proto", FILE),
    ("find_enrichment_table_records", TABLE),
    ("find_vector_metrics", "a step sees the event and nothing else"),
    ("get_enrichment_table_record", TABLE),
    ("get_env_var", "write the value into the program"),
    ("get_hostname", "let the producer put its name into `.source`"),
    ("get_secret", SECRET),
    ("get_timezone_name", "times are in UTC; name the time zone in the program"),
    ("get_vector_metric", "a step sees the event and nothing else"),
    ("http_request", LOOKUP),
    ("log", "event values must not reach the logs; put the text into a field of the event"),
    ("now", "use `.time` of the event"),
    ("parse_etld", FILE),
    (
        "parse_groks",
        "it takes missing parts of dates from the clock and reads files; use `parse_grok` or `parse_regex`",
    ),
    ("parse_klog", YEAR),
    ("parse_linux_authorization", YEAR),
    ("parse_proto", FILE),
    ("parse_ruby_hash", "it follows a text into any depth; let the producer send JSON"),
    ("parse_syslog", YEAR),
    ("random_bool", RANDOM),
    ("random_bytes", RANDOM),
    ("random_float", RANDOM),
    ("random_int", RANDOM),
    ("remove_secret", SECRET),
    ("reverse_dns", LOOKUP),
    ("set_secret", SECRET),
    (
        "shannon_entropy",
        "it adds up in an order that differs from run to run, and so do its last digits",
    ),
    ("uuid_v4", NEW_ID),
    ("uuid_v7", NEW_ID),
    ("validate_json_schema", FILE),
];

/// What a program is compiled with.
pub(super) fn allowed() -> Vec<Box<dyn Function>> {
    vrl::stdlib::all()
        .into_iter()
        .filter(|function| alternative(function.identifier()).is_none())
        .map(|function| match function.identifier() {
            "parse_timestamp" | "format_timestamp" => {
                Box::new(Guarded { inner: function, guard: Guard::NamedZone }) as _
            }
            "parse_cef" => Box::new(Guarded { inner: function, guard: Guard::NoTranslation }) as _,
            name => match bounds::of(name) {
                Some((argument, judge)) => {
                    Box::new(Guarded { inner: function, guard: Guard::Bounded(argument, judge) })
                        as _
                }
                None => function,
            },
        })
        .collect()
}

/// What to do instead of calling an excluded function; `None` for any other.
pub(super) fn alternative(function: &str) -> Option<&'static str> {
    EXCLUDED.iter().find(|(name, _)| *name == function).map(|(_, instead)| *instead)
}

/// A function of which one way of calling it depends on more than the event, or makes too much of it.
#[derive(Debug)]
struct Guarded {
    inner: Box<dyn Function>,
    guard: Guard,
}

#[derive(Clone, Copy, Debug)]
enum Guard {
    /// `timezone: "local"` is the machine's.
    NamedZone,
    /// `translate_custom_fields` lets one of two equal labels win at random.
    NoTranslation,
    /// An argument decides how much it makes.
    Bounded(&'static str, bounds::Judge),
}

const LOCAL_ZONE: &str = "the time zone `local` is the machine's; name one, such as \"UTC\"";
const TWICE: &str = "its arguments are looked at twice, and `del` works once; assign what was deleted to a variable first";
const TRANSLATION: &str = "`translate_custom_fields` picks one of two equal labels at random; rename the fields in the program";

impl Function for Guarded {
    fn identifier(&self) -> &'static str {
        self.inner.identifier()
    }

    fn usage(&self) -> &'static str {
        self.inner.usage()
    }

    fn category(&self) -> &'static str {
        self.inner.category()
    }

    fn return_kind(&self) -> u16 {
        self.inner.return_kind()
    }

    fn examples(&self) -> &'static [Example] {
        self.inner.examples()
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.inner.parameters()
    }

    fn compile(
        &self,
        state: &TypeState,
        context: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        match self.guard {
            Guard::NamedZone => {
                let zone = arguments.optional("timezone");
                if let Some(name) = zone.as_ref().and_then(|zone| zone.resolve_constant(state))
                    && is_local(&name)
                {
                    return Err(Box::new(Refused(LOCAL_ZONE)));
                }
                let call = self.inner.compile(state, context, arguments)?;
                Ok(match zone {
                    Some(zone) => NamedZone { call, zone }.as_expr(),
                    None => call,
                })
            }
            Guard::NoTranslation if arguments.optional("translate_custom_fields").is_some() => {
                Err(Box::new(Refused(TRANSLATION)))
            }
            Guard::Bounded(name, judge) => {
                let has = |name| arguments.optional(name).is_some();
                let deletes = |name| arguments.required_expr(name).to_string().contains("del(");
                if [name, "separator"].into_iter().any(|name| has(name) && deletes(name)) {
                    return Err(Box::new(Refused(TWICE)));
                }
                let argument = arguments.optional(name);
                let separator = arguments.optional("separator");
                let call = self.inner.compile(state, context, arguments)?;
                let Some(argument) = argument else { return Ok(call) };
                Ok(Bounded { call, argument, separator, judge }.as_expr())
            }
            Guard::NoTranslation => self.inner.compile(state, context, arguments),
        }
    }
}

/// A call whose time zone is checked each time, because the event may name it.
#[derive(Clone, Debug)]
struct NamedZone {
    call: Box<dyn Expression>,
    zone: Box<dyn Expression>,
}

impl FunctionExpression for NamedZone {
    fn resolve(&self, context: &mut Context) -> Resolved {
        if is_local(&self.zone.resolve(context)?) {
            return Err(LOCAL_ZONE.into());
        }
        self.call.resolve(context)
    }

    fn type_def(&self, state: &TypeState) -> TypeDef {
        self.call.type_def(state)
    }
}

fn is_local(zone: &Value) -> bool {
    matches!(zone.to_str_lossy().as_deref(), Some("" | "local"))
}

/// A call that is judged each time, because the event decides how much it makes.
#[derive(Clone, Debug)]
struct Bounded {
    call: Box<dyn Expression>,
    argument: Box<dyn Expression>,
    separator: Option<Box<dyn Expression>>,
    judge: bounds::Judge,
}

impl FunctionExpression for Bounded {
    fn resolve(&self, context: &mut Context) -> Resolved {
        let argument = self.argument.resolve(context)?;
        let separator = self.separator.as_ref().map(|by| by.resolve(context)).transpose()?;
        let event = context.target().target_get(&OwnedTargetPath::event_root()).ok().flatten();
        (self.judge)(&argument, &bounds::Beside { separator: separator.as_ref(), event })?;
        self.call.resolve(context)
    }

    fn type_def(&self, state: &TypeState) -> TypeDef {
        self.call.type_def(state)
    }
}

/// Refuses a call whose answer would depend on more than the event, or that could not be judged.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

impl DiagnosticMessage for Refused {
    fn code(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn excluded_functions_are_sorted_and_named_once() {
        assert!(EXCLUDED.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn functions_the_library_calls_impure_are_not_allowed() {
        let impure: BTreeSet<_> =
            allowed().iter().filter(|f| !f.pure()).map(|f| f.identifier()).collect();
        // `assert` and `assert_eq` fail or do nothing: the same for the same event. `del` changes
        // the event, which is what a program is for.
        assert_eq!(impure, BTreeSet::from(["assert", "assert_eq", "del"]));
    }

    #[test]
    fn functions_with_changing_examples_are_not_allowed() {
        let changing: BTreeSet<_> = allowed()
            .iter()
            .filter(|f| f.examples().iter().any(|example| !example.deterministic))
            .map(|f| f.identifier())
            .collect();
        assert_eq!(changing, BTreeSet::new());
    }
}
