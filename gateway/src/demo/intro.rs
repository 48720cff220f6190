//! What the demo prints first: where everything is, what to type, and what is going to happen.

use super::setting::EXPERIMENT;
use super::{Running, reachable, story};
use crate::cli::console::{Paint, Tone};

/// A request to the edge, for a shell.
pub(super) fn curl(running: &Running) -> String {
    // A proxy in the environment would be asked for this machine's own addresses too.
    let proxies = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let proxied =
        proxies.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    format!(
        "curl{} --cacert {} https://{}/v1/chat/completions \\\n    \
             -H 'authorization: Bearer {}' \\\n    \
             -H 'x-user-id: alice' -H 'content-type: application/json' \\\n    \
             -d '{{\"model\": \"demo\", \"messages\": [{{\"role\": \"user\", \"content\": \"What is a weir?\"}}]}}'",
        if proxied { " --noproxy '*'" } else { "" },
        quoted(&running.folder.path().join("ca.pem").display().to_string()),
        reachable(running.gateway.edge()),
        running.client_key,
    )
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// How this program was called here, so that it works there.
pub(super) fn weir() -> String {
    let called = std::env::args().next().filter(|name| !name.is_empty());
    quoted(&called.unwrap_or_else(|| "weir".to_owned()))
}

/// Where everything is, and what to try.
pub(super) fn intro(running: &Running, paint: Paint) -> String {
    let title = |text: &str| paint.paint(Tone::Bold, text);
    let dim = |text: &str| paint.paint(Tone::Dim, text);
    let admin = running.gateway.admin();
    let folder = running.folder.path().display();
    let weir = weir();
    let tries = [
        (format!("{weir} top"), "the same and more, live: arrows and Enter go deeper"),
        (format!("{weir} ramp status {EXPERIMENT}"), "evidence of each guardrail, decisions"),
        (format!("{weir} results {EXPERIMENT}"), "what each variant did, verdict first"),
        (format!("{weir} split {EXPERIMENT}"), "the split in force, who set it and why"),
        (format!("{weir} history {EXPERIMENT}"), "who changed what, and when"),
        (format!("{weir} assign {EXPERIMENT} alice"), "which variant a user gets"),
        (format!("{weir} status"), "the gateway on one screen"),
        (format!("curl -s http://{admin}/metrics"), "numbers for Prometheus"),
    ];
    // These end the story, for the time being at least.
    let hands = [
        (format!("{weir} split {EXPERIMENT} stable=50 next=50"), "move the split"),
        (format!("{weir} stop {EXPERIMENT}"), "kill switch: all to stable"),
        (format!("{weir} undo {EXPERIMENT}"), "take the last change back"),
    ];
    let all = || tries.iter().chain(&hands);
    let widest = all().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let lines: String = all()
        .map(|(command, what)| format!("  {command:<widest$}   {}\n", dim(&format!("# {what}"))))
        .collect();
    let what_happens = match running.load {
        Some(_) => {
            let lines = story::beforehand().join("\n  ");
            format!("{}\n\n  {lines}\n", title("What happens now, in two or three minutes"))
        }
        None => format!(
            "{} and so no story: without load there is nothing to decide by\n",
            title("No load,")
        ),
    };
    format!(
        "\n{} one route, a model that serves it, two that want to, and a gateway that decides\n\n  \
           edge    https://{}   {}\n  \
           admin   http://{admin}   {}\n  \
           files   {folder}   {}\n\n\
         {} {}\n\n  http://{admin}/#token={}\n\n\
         {} {}\n\n  {}\n\n\
         {}\n\n  \
           export WEIR_ADMIN=http://{admin}\n  \
           export WEIR_TOKEN={}\n\n{lines}\n{what_happens}\n",
        title("Weir demo:"),
        reachable(running.gateway.edge()),
        dim("OpenAI chat API, TLS with a throw-away certificate"),
        dim("the admin API (JSON), signed in to with the token below"),
        dim(if running.folder.is_removed() { "removed at the end" } else { "kept at the end" }),
        title("See it in a browser"),
        dim("(the console; the link signs in with the key of this demo)"),
        running.admin_key,
        title("Ask a model"),
        dim("(the same is in curl.sh of that folder; add \"stream\": true to see it stream)"),
        curl(running),
        title("In another terminal"),
        running.admin_key,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_strange_name_is_still_one_word() {
        assert_eq!(quoted("/tmp/weir-demo-1"), "/tmp/weir-demo-1");
        assert_eq!(quoted("/tmp/my weir's"), "'/tmp/my weir'\\''s'");
    }
}
