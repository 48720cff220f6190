//! Where the APIs of language models put what the model said.

use serde_json::Value;

/// The text of an answer, whole: of OpenAI's chat completions, completions and responses, and of
/// Anthropic's messages. Calls of tools belong to it, as `NAME(ARGUMENTS)`; several choices or blocks
/// are joined by line ends. `None` if the answer is of none of these APIs.
///
/// A JSON string by itself is what it says.
pub fn said(answer: &Value) -> Option<String> {
    if let Some(text) = answer.as_str() {
        return Some(text.to_owned());
    }
    let mut parts = Parts::default();
    if let Some(choices) = answer.get("choices").and_then(Value::as_array) {
        for choice in choices {
            match choice.get("message") {
                Some(message) => parts.message(message),
                None => parts.text(choice.get("text")),
            }
        }
    } else if let Some(blocks) = answer.get("content").and_then(Value::as_array) {
        blocks.iter().for_each(|block| parts.block(block));
    } else if let Some(items) = answer.get("output").and_then(Value::as_array) {
        items.iter().for_each(|item| parts.item(item));
    }
    parts.known.then(|| parts.said.join("\n"))
}

#[derive(Default)]
struct Parts {
    said: Vec<String>,
    /// Something was where it is in these APIs, even if it was empty.
    known: bool,
}

impl Parts {
    fn push(&mut self, text: impl Into<String>) {
        self.known = true;
        self.said.push(text.into());
    }

    fn text(&mut self, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.push(text);
        }
    }

    fn call(&mut self, name: Option<&Value>, arguments: Option<&Value>) {
        let Some(name) = name.and_then(Value::as_str) else { return };
        let arguments = match arguments {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        self.push(format!("{name}({arguments})"));
    }

    /// Of chat completions: text, or a list of parts, and calls.
    fn message(&mut self, message: &Value) {
        match message.get("content") {
            Some(Value::Array(parts)) => parts.iter().for_each(|part| self.block(part)),
            content => self.text(content),
        }
        self.text(message.get("refusal"));
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let function = call.get("function");
            let member = |name| function.and_then(|function| function.get(name));
            self.call(member("name"), member("arguments"));
        }
    }

    /// A block of Anthropic's content, or a part of OpenAI's.
    fn block(&mut self, block: &Value) {
        self.text(block.get("text"));
        if block.get("type").and_then(Value::as_str) == Some("tool_use") {
            self.call(block.get("name"), block.get("input"));
        }
    }

    /// Of the responses API.
    fn item(&mut self, item: &Value) {
        for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
            self.block(part);
        }
        if item.get("type").and_then(Value::as_str) == Some("function_call") {
            self.call(item.get("name"), item.get("arguments"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_said_is_found_in_each_api() {
        let chat = json!({"id": "x", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "yes"}},
            {"index": 1, "message": {"role": "assistant", "content": "no"}},
        ]});
        assert_eq!(said(&chat).as_deref(), Some("yes\nno"));
        let tools = json!({"choices": [{"message": {"content": null, "tool_calls": [
            {"id": "call_1", "function": {"name": "weather", "arguments": "{\"city\":\"Graz\"}"}},
        ]}}]});
        assert_eq!(said(&tools).as_deref(), Some("weather({\"city\":\"Graz\"})"));
        assert_eq!(said(&json!({"choices": [{"text": "old"}]})).as_deref(), Some("old"));
        let anthropic = json!({"type": "message", "content": [
            {"type": "text", "text": "see"},
            {"type": "tool_use", "id": "t", "name": "look", "input": {"at": 1}},
        ]});
        assert_eq!(said(&anthropic).as_deref(), Some("see\nlook({\"at\":1})"));
        let responses = json!({"object": "response", "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": "hello"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
        ]});
        assert_eq!(said(&responses).as_deref(), Some("hello\nf({})"));
        assert_eq!(said(&json!("plain")).as_deref(), Some("plain"));
    }

    #[test]
    fn an_empty_answer_says_nothing_and_another_api_has_none() {
        assert_eq!(said(&json!({"choices": [{"message": {"content": ""}}]})).as_deref(), Some(""));
        for other in
            [json!({}), json!({"outputs": [1]}), json!([1]), json!({"choices": []}), json!(null)]
        {
            assert_eq!(said(&other), None, "{other}");
        }
    }
}
