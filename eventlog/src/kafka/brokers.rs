//! The URL of a cluster: `kafka://host:port,host:port`. No error repeats any of it: a person may have
//! taken it for the place of a password.

use crate::LogError;

const PORT: u16 = 9092;

/// The brokers of a URL as librdkafka wants them: `host:port,host:port`.
pub(super) fn parse(url: &str) -> Result<String, LogError> {
    let wrong =
        |what: &str| LogError::Fatal(format!("log url: {what}; write kafka://HOST:PORT,HOST:PORT"));
    let list =
        url.strip_prefix("kafka://").ok_or_else(|| wrong("it does not begin with kafka://"))?;
    if list.contains('@') {
        return Err(LogError::Fatal(
            "log url: a user or password has no place in it; set the properties sasl.username and \
             sasl.password"
                .into(),
        ));
    }
    let list = list.strip_suffix('/').unwrap_or(list);
    if list.contains(['/', '?', '#']) {
        return Err(wrong("it names brokers only, no path"));
    }
    let brokers: Vec<_> = list
        .split(',')
        .map(|broker| one(broker.trim()))
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    Ok(brokers.join(","))
}

fn one(broker: &str) -> Result<String, &'static str> {
    if broker.is_empty() {
        return Err("a broker has no name");
    }
    // `[::1]:9092`: what is in brackets is the host.
    let (host, port) = match broker.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let host = &broker[..address.len() + 2];
            (host, rest.strip_prefix(':').or((rest.is_empty()).then_some("")))
        }
        None => match broker.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (broker, Some("")),
        },
    };
    if host.is_empty() || host == "[]" || host.contains(char::is_whitespace) {
        return Err("a broker has no host");
    }
    let port = match port {
        Some("") => PORT,
        Some(port) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("a broker's port is not one")?
        }
        None => return Err("a broker has no port after its colon"),
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_listed_and_ports_filled_in() {
        assert_eq!(parse("kafka://a").unwrap(), "a:9092");
        assert_eq!(parse("kafka://a:1,b , c:3/").unwrap(), "a:1,b:9092,c:3");
        assert_eq!(parse("kafka://[::1],[fe80::2]:19092").unwrap(), "[::1]:9092,[fe80::2]:19092");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told() {
        for (url, what) in [
            ("kafka:a:9092", "does not begin with kafka://"),
            ("kafka://", "no name"),
            ("kafka://a,,b", "no name"),
            ("kafka://a:", "no port after its colon"),
            ("kafka://a:b", "port is not one"),
            ("kafka://a:0", "port is not one"),
            ("kafka://a:70000", "port is not one"),
            ("kafka://:9092", "no host"),
            ("kafka://[::1", "port is not one"),
            ("kafka://a:9092/topic", "no path"),
        ] {
            let told = parse(url).unwrap_err().to_string();
            assert!(told.contains(what), "{url}: {told}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_shown() {
        let told = parse("kafka://me:hunter2@a:9092").unwrap_err().to_string();
        assert!(told.contains("sasl.password") && !told.contains("hunter2"), "{told}");
        for odd in
            ["kafka:/me:hunter2@a", "kafka://me:hunter2", "kafka://a?x=hunter2", "kafka:///hunter2"]
        {
            let told = parse(odd).unwrap_err().to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
