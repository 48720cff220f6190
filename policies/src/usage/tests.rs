use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod oracle;

fn read(kind: BodyKind, body: impl AsRef<[u8]>) -> Usage {
    let mut reader = UsageReader::new(kind);
    reader.feed(body.as_ref());
    reader.finish()
}

fn json(body: impl AsRef<[u8]>) -> Usage {
    read(BodyKind::Json, body)
}

fn stream(body: impl AsRef<[u8]>) -> Usage {
    read(BodyKind::EventStream, body)
}

/// `input, output, cached input, reasoning`.
fn counts(usage: &Usage) -> [Option<u64>; 4] {
    [usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.reasoning_tokens]
}

fn named(reason: &str, model: &str) -> Usage {
    let kept = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Usage {
        finish_reason: kept(reason).map(Cow::Owned),
        response_model: kept(model),
        complete: true,
        ..Usage::default()
    }
}

const CHAT: &str = r#"{
  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
  "object": "chat.completion",
  "created": 1741569952,
  "model": "gpt-4.1-2025-04-14",
  "choices": [{
    "index": 0,
    "message": {"role": "assistant", "content": "Use \"usage\":{\"prompt_tokens\":9}", "refusal": null, "annotations": []},
    "logprobs": null,
    "finish_reason": "stop"
  }],
  "usage": {
    "prompt_tokens": 1219,
    "completion_tokens": 210,
    "total_tokens": 1429,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
  },
  "service_tier": "default"
}"#;

#[test]
fn a_chat_completion_is_read() {
    assert_eq!(
        json(CHAT),
        Usage {
            input_tokens: Some(1219),
            output_tokens: Some(210),
            cached_input_tokens: Some(1024),
            reasoning_tokens: Some(128),
            ..named("stop", "gpt-4.1-2025-04-14")
        }
    );
}

const CHAT_STREAM: &str = concat!(
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":" \"finish_reason\":\"length\""},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#,
    "\n\ndata: [DONE]\n\n",
);

fn chat_stream_usage() -> Usage {
    Usage {
        input_tokens: Some(9),
        output_tokens: Some(3),
        cached_input_tokens: Some(0),
        reasoning_tokens: Some(0),
        content_events: 2,
        ..named("stop", "gpt-4o-mini")
    }
}

#[test]
fn a_chat_stream_is_read() {
    assert_eq!(stream(CHAT_STREAM), chat_stream_usage());
}

#[test]
fn a_stream_that_stops_early_leaves_its_count_of_events() {
    let half = &CHAT_STREAM[..CHAT_STREAM.find("\"stop\"").unwrap()];
    let usage = stream(half);
    assert_eq!(counts(&usage), [None; 4]);
    assert_eq!((usage.content_events, usage.complete), (2, false));
    assert_eq!(usage.finish_reason, None);
    assert_eq!(usage.response_model.as_deref(), Some("gpt-4o-mini"));
}

#[test]
fn the_last_of_running_totals_counts() {
    // vLLM with stream_options.continuous_usage_stats.
    let body = concat!(
        r#"data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" a","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}"#,
        "\n\n",
        r#"data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" b","logprobs":null,"finish_reason":"length","stop_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}"#,
        "\n\ndata: [DONE]\n\n",
    );
    let usage = stream(body);
    assert_eq!(counts(&usage), [Some(5), Some(2), None, None]);
    assert_eq!(usage.finish_reason.as_deref(), Some("length"));
    assert_eq!((usage.content_events, usage.complete), (2, true));
}

#[test]
fn usage_beside_the_choice_is_read() {
    let usage = stream(
        "data: {\"id\": \"c\", \"model\": \"kimi\", \"choices\": [{\"index\": 0, \"delta\": {}, \
         \"finish_reason\": \"stop\", \"usage\": {\"prompt_tokens\": 8, \"completion_tokens\": 4.0}}]}\n\n",
    );
    assert_eq!(counts(&usage), [Some(8), Some(4), None, None]);
}

#[test]
fn completions_and_embeddings_are_read() {
    let completion = r#"{"id":"cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7","object":"text_completion","created":1589478378,"model":"gpt-3.5-turbo-instruct","system_fingerprint":"fp_44709d6fcb","choices":[{"text":"\n\nThis is indeed a test","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#;
    assert_eq!(
        json(completion),
        Usage {
            input_tokens: Some(5),
            output_tokens: Some(7),
            ..named("length", "gpt-3.5-turbo-instruct")
        }
    );
    let embedding = r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023064255,-0.009327292],"index":0}],"model":"text-embedding-ada-002","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    assert_eq!(
        json(embedding),
        Usage { input_tokens: Some(8), ..named("", "text-embedding-ada-002") }
    );
}

const RESPONSE: &str = r#"{"id":"resp_67ccd2bed1ec8190b14f964abc054267","object":"response","created_at":1741476542,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"gpt-4.1-2025-04-14","output":[{"type":"message","id":"msg_67ccd2bf17f0819081ff3bb2cf6508e6","status":"completed","role":"assistant","content":[{"type":"output_text","text":"In a peaceful grove","annotations":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":12},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":123},"user":null,"metadata":{}}"#;

fn response_usage() -> Usage {
    Usage {
        input_tokens: Some(36),
        output_tokens: Some(87),
        cached_input_tokens: Some(12),
        reasoning_tokens: Some(7),
        ..named("completed", "gpt-4.1-2025-04-14")
    }
}

/// The events of a response, the last of which carries `last`.
fn response_stream(last: &str) -> String {
    let created = RESPONSE
        .replace(r#""status":"completed","error""#, r#""status":"in_progress","error""#)
        .split(r#""usage":"#)
        .next()
        .unwrap()
        .to_owned()
        + r#""usage":null,"user":null,"metadata":{}}"#;
    [
        ("response.created", format!(r#""response":{created}"#)),
        ("response.in_progress", format!(r#""response":{created}"#)),
        (
            "response.output_item.added",
            r#""output_index":0,"item":{"id":"msg_67c","type":"message","status":"in_progress","role":"assistant","content":[]}"#.to_owned(),
        ),
        (
            "response.output_text.delta",
            r#""item_id":"msg_67c","output_index":0,"content_index":0,"delta":"In a""#.to_owned(),
        ),
        (
            "response.output_text.delta",
            r#""item_id":"msg_67c","output_index":0,"content_index":0,"delta":" grove""#.to_owned(),
        ),
        (
            "response.output_text.done",
            r#""item_id":"msg_67c","output_index":0,"content_index":0,"text":"In a grove""#.to_owned(),
        ),
        (last, format!(r#""response":{RESPONSE}"#)),
    ]
    .iter()
    .enumerate()
    .map(|(n, (kind, rest))| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{n},{rest}}}\n\n")
    })
    .collect()
}

#[test]
fn the_responses_api_is_read() {
    assert_eq!(json(RESPONSE), response_usage());
    assert_eq!(
        stream(response_stream("response.completed")),
        Usage { content_events: 2, ..response_usage() }
    );
    assert!(!stream(response_stream("response.something")).complete);
}

#[test]
fn an_incomplete_response_says_why() {
    let body = RESPONSE
        .replace(r#""status":"completed","error""#, r#""status":"incomplete","error""#)
        .replace(
            r#""incomplete_details":null"#,
            r#""incomplete_details":{"reason":"max_output_tokens"}"#,
        );
    assert_eq!(json(body).finish_reason.as_deref(), Some("max_output_tokens"));
}

#[test]
fn an_anthropic_message_is_read_and_cached_tokens_are_input() {
    let body = r#"{"id":"msg_013Zva2CMHLNnjNjJJKqJ2EF","type":"message","role":"assistant","model":"claude-sonnet-4-20250514","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"usage":{"input_tokens":1},"stop_reason":"x"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":2095,"cache_creation_input_tokens":10,"cache_read_input_tokens":300,"output_tokens":503,"service_tier":"standard"}}"#;
    assert_eq!(
        json(body),
        Usage {
            input_tokens: Some(2405),
            output_tokens: Some(503),
            cached_input_tokens: Some(300),
            ..named("end_turn", "claude-sonnet-4-20250514")
        }
    );
}

const MESSAGE_STREAM: &str = r#"event: message_start
data: {"type": "message_start", "message": {"id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY", "type": "message", "role": "assistant", "content": [], "model": "claude-opus-4-20250514", "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 25, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 70, "output_tokens": 1}}}

event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!\", \"stop_reason\": \"refusal\""}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"usage\": {\"output_tokens\": 77}}"}}

event: content_block_stop
data: {"type": "content_block_stop", "index": 0}

event: message_delta
data: {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence":null}, "usage": {"output_tokens": 15}}

event: message_stop
data: {"type": "message_stop"}

"#;

fn message_stream_usage() -> Usage {
    Usage {
        input_tokens: Some(100),
        output_tokens: Some(15),
        cached_input_tokens: Some(70),
        content_events: 3,
        ..named("tool_use", "claude-opus-4-20250514")
    }
}

#[test]
fn an_anthropic_stream_is_read() {
    assert_eq!(stream(MESSAGE_STREAM), message_stream_usage());
    let half = &MESSAGE_STREAM[..MESSAGE_STREAM.find("event: message_delta").unwrap()];
    let usage = stream(half);
    assert_eq!(counts(&usage), [Some(100), Some(1), Some(70), None]);
    assert!(!usage.complete);
}

#[test]
fn prompt_tokens_of_a_translating_proxy_have_the_cached_ones_in_them() {
    let usage = json(
        r#"{"usage":{"prompt_tokens":100,"completion_tokens":1,"cache_read_input_tokens":80,"cache_creation_input_tokens":3}}"#,
    );
    assert_eq!(counts(&usage), [Some(100), Some(1), Some(80), None]);
}

#[test]
fn line_ends_comments_and_a_byte_order_mark_make_no_difference() {
    for end in ["\r\n", "\r", "\n"] {
        let body = format!("\u{feff}: hello\n\nretry: 10\n{CHAT_STREAM}").replace('\n', end);
        assert_eq!(stream(body), chat_stream_usage(), "{end:?}");
    }
    // The data of one event in several lines, without the space, and with other fields between.
    let body = CHAT_STREAM
        .replace(",\"choices\"", ",\ndata\nid: 7\n:data: x\ndata:\"choices\"")
        .replace("data: {", "data:{");
    assert_eq!(stream(body), chat_stream_usage());
    // Without the last line ends.
    assert_eq!(stream(CHAT_STREAM.trim_end()), chat_stream_usage());
}

#[test]
fn a_field_that_only_begins_like_data_is_another_field() {
    for field in [
        "dat: [DONE]",
        "data : [DONE]",
        "datas: [DONE]",
        " data: [DONE]",
        "\u{feff}\u{feff}data: [DONE]",
    ] {
        assert!(!stream(format!("{field}\n\n")).complete, "{field}");
    }
    assert!(stream("\u{feff}data:[DONE]").complete);
    assert_eq!(stream("data\ndata:\n\n\n\ndata: \n\n"), Usage::default());
}

#[test]
fn members_of_another_type_are_as_good_as_absent() {
    let usage = json(
        r#"{"id":7,"model":["m"],"choices":{},"usage":{"prompt_tokens":"9","completion_tokens":-1,"prompt_tokens_details":5,"input_tokens":1.5,"output_tokens":3},"delta":"x","response":"y","message":1,"type":null}"#,
    );
    assert_eq!(usage, Usage { output_tokens: Some(3), complete: true, ..Usage::default() });
}

#[test]
fn an_object_that_has_a_member_twice_is_not_read() {
    let check = |body: &str, input, output| {
        let usage = json(body);
        assert_eq!(counts(&usage)[..2], [input, output], "{body}");
        assert!(usage.complete, "{body}");
    };
    let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
    check(&format!("{{{usage}}}"), Some(1), Some(2));
    check(&format!("{{{usage},{usage}}}"), None, None);
    check(&format!(r#"{{"model":"a",{usage},"mod\u0065l":null}}"#), None, None);
    check(&format!(r#"{{"x":1,"x":2,{usage}}}"#), Some(1), Some(2));
    check(r#"{"usage":{"prompt_tokens":1,"prompt_tokens":1},"id":"a"}"#, None, None);
    check(&format!(r#"{{"choices":[{{{usage}}},{{"usage":1,"usage":1}}]}}"#), None, None);
    check(&format!(r#"{{"choices":[{{{usage}}},{{"index":1,"index":1}}]}}"#), Some(1), Some(2));
    check(&format!(r#"{{"choices":[{{{usage}}},7]}}"#), None, None);
    check(&format!(r#"{{"response":{{{usage},"status":1,"status":2}}}}"#), None, None);
    let details =
        r#""input_tokens":3,"input_tokens_details":{"cached_tokens":1,"cached_tokens":1}"#;
    check(&format!(r#"{{"usage":{{{details}}}}}"#), Some(3), None);
    assert_eq!(json(format!(r#"{{"usage":{{{details}}}}}"#)).cached_input_tokens, None);
}

#[test]
fn what_is_not_json_says_nothing_wherever_it_goes_wrong() {
    let body = |x: &str| format!(r#"{{"id":"a","usage":{{"prompt_tokens":1}},"x":{x}}}"#);
    for sound in ["1", "[1,{\"a\":[]}]", "\"\\ud800\"", "-1.5e+3", "1e999", "{\"\\ud800\":1}"] {
        assert_eq!(json(body(sound)).input_tokens, Some(1), "{sound}");
    }
    for flawed in [
        "",
        "01",
        "1.",
        "+1",
        "nul",
        "[1,]",
        "[1}",
        "{1}",
        "{\"a\"}",
        "\"\\x\"",
        "\"\n\"",
        "1,",
        "1}",
        "{\"a\":1,}",
        "[[1]",
        "\"\\u12\"",
    ] {
        assert_eq!(json(body(flawed)), Usage::default(), "{flawed}");
    }
    // Nobody keeps this text, so nobody minds that it is none.
    let mut bytes = body("\"\u{e4}\"").into_bytes();
    bytes.remove(bytes.len() - 3);
    assert!(std::str::from_utf8(&bytes).is_err());
    assert_eq!(json(bytes).input_tokens, Some(1));
    // What would be kept and is no text is as good as absent.
    let usage =
        json(b"{\"stop_reason\":\"\xff\",\"model\":\"\\ud800\",\"usage\":{\"prompt_tokens\":1}}");
    assert_eq!(usage.input_tokens, Some(1));
    assert_eq!((usage.finish_reason, usage.response_model), (None, None));
}

#[test]
fn no_depth_of_nesting_does_harm() {
    let body = |levels: usize| {
        let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"x":{nested},"usage":{{"prompt_tokens":1}}}}"#)
    };
    assert_eq!(json(body(100)).input_tokens, Some(1));
    assert_eq!(json(body(100_000)), Usage::default());
    for unclosed in ["{\"response\":", "{\"choices\":[", "{\"usage\":", "{\"x\":", "["] {
        assert_eq!(json(unclosed.repeat(20_000)), Usage::default());
    }
}

#[test]
fn words_are_cut_between_characters() {
    let usage = json(format!(
        r#"{{"stop_reason":"{}","model":"{}"}}"#,
        "i".repeat(129),
        "\u{e4}".repeat(65)
    ));
    assert_eq!(usage.finish_reason.unwrap(), "i".repeat(128));
    assert_eq!(usage.response_model.unwrap(), "\u{e4}".repeat(64));
    let usage = json(format!(r#"{{"model":"i{}"}}"#, "\u{e4}".repeat(65)));
    assert_eq!(usage.response_model.unwrap().len(), 127);
}

#[test]
fn a_body_too_long_to_keep_is_read_from_its_end() {
    let long = "x".repeat(300 * 1024);
    let usage = json(CHAT.replace("Use ", &long));
    assert_eq!(counts(&usage), [Some(1219), Some(210), Some(1024), Some(128)]);
    assert_eq!(usage.finish_reason.as_deref(), Some("stop"));
    assert!(usage.complete);

    let numbers = "0.0023064255,".repeat(40_000);
    let body = format!(
        r#"{{"object":"list","data":[{{"embedding":[{numbers}0]}}],"model":"e5","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
    );
    assert_eq!(json(&body), Usage { input_tokens: Some(8), ..named("", "e5") });
    assert_eq!(json(&body[..body.len() - 1]), Usage::default());

    let last = response_stream("response.completed").replace("In a peaceful grove", &long);
    let usage = stream(last);
    assert_eq!(counts(&usage), counts(&response_usage()));
    assert!(usage.complete);
}

#[test]
fn at_the_end_of_a_long_body_only_its_own_members_count() {
    let check = |rest: &str, input| {
        let body = format!(r#"{{"text":"{}"{rest}}}"#, "x".repeat(300 * 1024));
        assert_eq!(json(body).input_tokens, input, "{rest}");
    };
    check(r#","usage":{"input_tokens":1}"#, Some(1));
    check(r#","usage":{"input_tokens":1},"b":"\"usage\":{\"input_tokens\":2}""#, Some(1));
    check(r#","usage":{"input_tokens":1},"b":{"usage":{"input_tokens":2}}"#, Some(1));
    check(r#","usage":{"input_tokens":1},"b\"usage":{"input_tokens":2}"#, Some(1));
    check(r#","usage":{"input_tokens":1},"b":"usage","c":["usage"]"#, Some(1));
    check(r#","usage" : {"input_tokens" : 1} , "b":"}}]" "#, Some(1));
    check(r#","usage":{"input_tokens":1"#, None);
    check(r#","usage":7"#, None);
    check("", None);
}

#[test]
fn other_bodies_are_not_read() {
    assert_eq!(read(BodyKind::Other, CHAT), Usage::default());
    let mut reader = UsageReader::new(BodyKind::Json);
    reader.feed(CHAT.as_bytes());
    reader.finish();
    reader.feed(CHAT.as_bytes());
    assert_eq!(reader.finish(), Usage::default());
    assert_eq!(json("[1]"), Usage { complete: true, ..Usage::default() });
    assert_eq!(json(&CHAT[..CHAT.len() - 1]), Usage::default());
    assert_eq!(json(""), Usage::default());
}

#[test]
fn what_follows_a_whole_answer_may_only_be_white_space() {
    let in_two = |rest: &str| {
        let mut reader = UsageReader::new(BodyKind::Json);
        reader.feed(CHAT.as_bytes());
        reader.feed(rest.as_bytes());
        reader.feed(b"\n");
        reader.finish()
    };
    assert_eq!(in_two(" \r\n"), json(CHAT));
    for rest in ["x", "{}", CHAT] {
        assert_eq!(in_two(rest), Usage::default());
        assert_eq!(json([CHAT, rest].concat()), Usage::default());
    }
}

#[test]
fn the_kind_is_told_by_the_content_type() {
    for (content_type, kind) in [
        ("application/json", BodyKind::Json),
        ("Application/JSON; charset=utf-8", BodyKind::Json),
        ("application/problem+json", BodyKind::Json),
        ("text/event-stream", BodyKind::EventStream),
        ("text/event-stream;charset=UTF-8", BodyKind::EventStream),
        ("application/jsonl", BodyKind::Other),
        ("text/plain", BodyKind::Other),
        ("\u{e4}json", BodyKind::Other),
        ("", BodyKind::Other),
    ] {
        assert_eq!(BodyKind::of_content_type(content_type), kind, "{content_type}");
    }
}

/// Feeds `body` in pieces of the given lengths, over and over.
fn in_pieces(kind: BodyKind, body: &[u8], lengths: &[usize]) -> Usage {
    let mut reader = UsageReader::new(kind);
    let mut rest = body;
    for length in lengths.iter().cycle() {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        reader.feed(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    reader.finish()
}

/// Streams made of pieces of real ones, of line ends, and of nonsense.
fn stream_like() -> impl Strategy<Value = Vec<u8>> {
    let lines = [CHAT_STREAM, MESSAGE_STREAM].map(str::lines).into_iter().flatten();
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let part = prop_oneof![
        6 => proptest::sample::select(lines).prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..8),
        2 => proptest::sample::select(vec!["data: ", "data", ":", "\u{feff}", "{", "\""])
            .prop_map(|text| text.as_bytes().to_vec()),
        9 => proptest::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    vec(part, 0..20).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn where_a_stream_is_split_makes_no_difference(
        body in stream_like(), lengths in vec(1..40_usize, 1..6)
    ) {
        for kind in [BodyKind::EventStream, BodyKind::Json] {
            prop_assert_eq!(in_pieces(kind, &body, &lengths), read(kind, &body));
        }
    }

    #[test]
    fn real_streams_are_read_however_they_are_split(
        lengths in vec(1..300_usize, 1..6), end in proptest::sample::select(vec!["\n", "\r", "\r\n"])
    ) {
        let pieces = |body: &str| {
            in_pieces(BodyKind::EventStream, body.replace('\n', end).as_bytes(), &lengths)
        };
        prop_assert_eq!(pieces(CHAT_STREAM), chat_stream_usage());
        prop_assert_eq!(pieces(MESSAGE_STREAM), message_stream_usage());
    }

    /// A scripted answer says of itself what the text in it says of others.
    #[test]
    fn text_does_not_deceive(text in "[\"\\\\{}:, a-e]{0,12}(\"usage\":\\{\"prompt_tokens\":9|\"finish_reason\":\"x\"|\"type\":\"message_stop\")[\"\\\\}]{0,6}") {
        let text = serde_json::to_string(&text).unwrap();
        let body = CHAT_STREAM.replace("\"Hello\"", &text);
        prop_assert_eq!(stream(body), chat_stream_usage());
    }

    #[test]
    fn garbage_is_nothing_worse_than_silence(body: Vec<u8>, text: String) {
        for kind in [BodyKind::EventStream, BodyKind::Json] {
            read(kind, &body);
            read(kind, [b"data: {\"usage\":{", text.as_bytes(), b"\n\n"].concat());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_long_body_is_read_the_same_however_it_is_split(
        filling in 250_000..290_000_usize, lengths in vec(1..40_000_usize, 1..4)
    ) {
        let text = "y".repeat(filling);
        let body = CHAT.replace("Use ", &text);
        prop_assert_eq!(
            in_pieces(BodyKind::Json, body.as_bytes(), &lengths), read(BodyKind::Json, &body)
        );
        let body = response_stream("response.completed").replace("In a peaceful grove", &text);
        let pieces = in_pieces(BodyKind::EventStream, body.as_bytes(), &lengths);
        prop_assert_eq!(pieces, stream(&body));
    }
}
