// A small language model behind the OpenAI chat API, on one core of this machine.
//
// Stands in for a model server of production (vLLM, llama.cpp, …), so it keeps their habits: answers
// stream token by token, a client that leaves stops its generation, more requests than sequences
// wait their turn. What makes an instance a variant is its system prompt and its temperature.
//
// GET /health · GET /v1/models · POST /v1/chat/completions · GET /stats

import {createHash, randomUUID} from "node:crypto";
import {renameSync, writeFileSync} from "node:fs";
import http from "node:http";
import {resolve} from "node:path";
import {pathToFileURL} from "node:url";
import {parseArgs} from "node:util";

const {values: flags} = parseArgs({options: {
    name: {type: "string", default: "model"},          // in log lines only; clients never see it
    port: {type: "string", default: "0"},              // 0: any free one
    "port-file": {type: "string"},                     // the port is written here once it answers
    runtime: {type: "string"},                         // folder with node_modules/node-llama-cpp
    "model-file": {type: "string"},                    // GGUF
    model: {type: "string", default: "smollm2-135m"},  // the name in requests and answers
    system: {type: "string", default: ""},             // put before the request's own system message
    temperature: {type: "string", default: "0"},       // where the request does not say
}});
if (!flags.runtime || !flags["model-file"]) {
    console.error("usage: node model-server.mjs --runtime DIR --model-file FILE.gguf [--port N] [--name NAME] [--system TEXT] [--temperature T]");
    process.exit(2);
}

const SEQUENCES = 4;         // requests generated at once, in one batch
const CONTEXT = 1024;        // tokens, prompt and answer together
const DEFAULT_ANSWER = 256;  // tokens, where the request does not say
const QUEUE = 64;            // requests that may wait for a sequence
const BODY_BYTES = 1 << 20;

// The engine lives in the cache, this file in the checkout, so a bare import would not find it.
const engine = resolve(flags.runtime, "node_modules/node-llama-cpp/dist/index.js");
const {getLlama, LlamaChat, resolveChatWrapper} = await import(pathToFileURL(engine));
const llama = await getLlama({gpu: false, build: "never", maxThreads: 1, logLevel: "error"});
const model = await llama.loadModel({modelPath: flags["model-file"]});
const context = await model.createContext({contextSize: CONTEXT, sequences: SEQUENCES, threads: 1});
const chatWrapper = resolveChatWrapper(model);   // once: finding it takes most of a second

// Tells a reader of the answer which configuration wrote it, as OpenAI's does.
const fingerprint = "fp_" + createHash("sha256")
    .update(JSON.stringify([flags.model, flags.system, flags.temperature])).digest("hex").slice(0, 10);

/** started = finished + cancelled + failed + active, at any moment. */
const stats = {started: 0, finished: 0, cancelled: 0, failed: 0, active: 0, waiting: 0, tokens: 0, last_cancelled: null};

const log = (what, more = {}) =>
    console.error([flags.name, what, ...Object.entries(more).map(([k, v]) => `${k}=${v}`)].join(" "));

/** A refusal that the client is told about, in the shape that OpenAI's SDKs expect. */
class Refusal extends Error {
    constructor(status, message, {type = "invalid_request_error", param = null, code = null, headers = {}} = {}) {
        super(message);
        Object.assign(this, {status, headers, body: {error: {message, type, param, code}}});
    }
}

// ---- sequences: taken in turn

const idle = Array.from({length: SEQUENCES}, () => context.getSequence());
const queue = [];

/** A sequence as soon as one is idle. Rejects if the client leaves while it waits. */
function takeSequence(signal) {
    if (idle.length > 0) return idle.pop();
    if (queue.length >= QUEUE)
        throw new Refusal(503, "too many requests are waiting", {type: "server_error", code: "overloaded", headers: {"retry-after": "1"}});
    return new Promise((take, leave) => {
        const onAbort = () => {
            queue.splice(queue.indexOf(turn), 1);
            stats.waiting--;
            leave(signal.reason);
        };
        const turn = sequence => {
            signal.removeEventListener("abort", onAbort);
            stats.waiting--;
            take(sequence);
        };
        stats.waiting++;
        queue.push(turn);
        signal.addEventListener("abort", onAbort, {once: true});
    });
}

/** Kept with its contents: a next prompt that begins alike need not be read again. */
function giveBack(sequence) {
    const next = queue.shift();
    if (next) next(sequence); else idle.push(sequence);
}

// ---- reading a request

async function readJson(req) {
    const parts = [];
    let size = 0;
    for await (const part of req) {
        size += part.length;
        if (size > BODY_BYTES) throw new Refusal(413, `the body is larger than ${BODY_BYTES} bytes`);
        parts.push(part);
    }
    let body;
    try {
        body = JSON.parse(Buffer.concat(parts).toString("utf8"));
    } catch (error) {
        throw new Refusal(400, `the body is not JSON: ${error.message}`);
    }
    if (body === null || typeof body !== "object" || Array.isArray(body)) throw new Refusal(400, "the body must be a JSON object");
    return body;
}

function number(body, param, {min, max, whole = false}) {
    const value = body[param];
    if (value === undefined || value === null) return undefined;
    if (typeof value !== "number" || value < min || value > max || (whole && !Number.isInteger(value)))
        throw new Refusal(400, `${param} must be ${whole ? "a whole number" : "a number"} from ${min} to ${max}`, {param});
    return value;
}

function text(content, param) {
    if (typeof content === "string") return content;
    if (Array.isArray(content) && content.every(part => part?.type === "text" && typeof part.text === "string"))
        return content.map(part => part.text).join("");
    throw new Refusal(400, "content must be a string or a list of text parts", {param});
}

/** The conversation as the engine wants it: system first, an empty answer last. */
function conversation(messages) {
    if (!Array.isArray(messages) || messages.length === 0) throw new Refusal(400, "messages must be a list with at least one message", {param: "messages"});
    const system = flags.system ? [flags.system] : [];
    const turns = [];
    messages.forEach((message, i) => {
        const content = text(message?.content, `messages[${i}].content`);
        switch (message.role) {
            case "system": case "developer": system.push(content); break;
            case "user": turns.push({type: "user", text: content}); break;
            case "assistant": turns.push({type: "model", response: [content]}); break;
            default: throw new Refusal(400, `this model knows the roles system, developer, user and assistant, not ${JSON.stringify(message.role)}`, {param: `messages[${i}].role`});
        }
    });
    if (turns.length === 0) turns.push({type: "user", text: ""});
    if (system.length > 0) turns.unshift({type: "system", text: system.join("\n\n")});
    return [...turns, {type: "model", response: []}];
}

function readChat(body) {
    if (typeof body.model !== "string") throw new Refusal(400, "model is missing", {param: "model"});
    if (body.model !== flags.model) throw new Refusal(404, `the model ${JSON.stringify(body.model)} does not exist`, {param: "model", code: "model_not_found"});
    if (body.n !== undefined && body.n !== null && body.n !== 1) throw new Refusal(400, "n can only be 1", {param: "n"});
    if (body.tools?.length) throw new Refusal(400, "this model cannot call tools", {param: "tools"});
    const stops = body.stop === undefined || body.stop === null ? [] : [body.stop].flat();
    if (stops.length > 4 || stops.some(stop => typeof stop !== "string" || stop === "")) throw new Refusal(400, "stop must be a string or up to 4 strings", {param: "stop"});
    const limits = {min: 1, max: 1e9, whole: true};
    return {
        history: conversation(body.messages),
        maxTokens: number(body, "max_completion_tokens", limits) ?? number(body, "max_tokens", limits) ?? DEFAULT_ANSWER,
        temperature: number(body, "temperature", {min: 0, max: 2}) ?? Number(flags.temperature),
        topP: number(body, "top_p", {min: 0, max: 1}) ?? 1,
        seed: number(body, "seed", {min: 0, max: 2 ** 32 - 1, whole: true}),
        stops,
        stream: body.stream === true,
        includeUsage: body.stream_options?.include_usage === true,
    };
}

// ---- answering it

async function chat(req, res) {
    const wanted = readChat(await readJson(req));
    const id = `chatcmpl-${randomUUID()}`;
    const began = performance.now();
    const gone = new AbortController();
    res.once("close", () => { if (!res.writableEnded) gone.abort(new Error("the client left")); });

    let tokens = 0;
    const ended = (how, more = {}) => {
        stats.active--;
        stats[how]++;
        log(how, {id, tokens, ms: Math.round(performance.now() - began), ...more});
    };
    stats.started++;
    stats.active++;
    try {
        const sequence = await takeSequence(gone.signal);
        try {
            await generate(sequence, wanted, id, res, gone.signal, count => { tokens += count; stats.tokens += count; });
        } finally {
            giveBack(sequence);
        }
        gone.signal.throwIfAborted();
        ended("finished");
    } catch (error) {
        if (gone.signal.aborted) {
            ended("cancelled");
            stats.last_cancelled = {id, tokens};
        } else {
            ended("failed", {reason: JSON.stringify(error.message)});
            throw error;
        }
    }
}

async function generate(sequence, wanted, id, res, signal, onTokens) {
    signal.throwIfAborted();
    const session = new LlamaChat({contextSequence: sequence, chatWrapper});
    try {
        const prompt = chatWrapper.generateContextState({chatHistory: wanted.history}).contextText.tokenize(model.tokenizer).length;
        const room = CONTEXT - prompt - 1;
        if (room < 1) throw new Refusal(400, `the messages are ${prompt} tokens long; this model reads ${CONTEXT} with its answer`, {param: "messages", code: "context_length_exceeded"});

        const common = {id, created: Math.floor(Date.now() / 1000), model: flags.model, system_fingerprint: fingerprint};
        const send = more => res.write(`data: ${JSON.stringify({...common, object: "chat.completion.chunk", ...more})}\n\n`);
        const choice = (delta, finish_reason = null) => ({index: 0, delta, logprobs: null, finish_reason});
        const usageMember = wanted.includeUsage ? {usage: null} : {};
        // The head goes out with the first token and not before: time to first byte then means
        // something, and what fails before it can still be told with a status.
        const open = () => {
            if (res.headersSent) return;
            res.writeHead(200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"});
            send({choices: [choice({role: "assistant", content: ""})], ...usageMember});
        };

        let written = 0;
        const {response, metadata} = await session.generateResponse(wanted.history, {
            maxTokens: Math.min(wanted.maxTokens, room),
            temperature: wanted.temperature,
            topP: wanted.topP,
            seed: wanted.seed,
            customStopTriggers: wanted.stops.length > 0 ? wanted.stops : undefined,
            signal,
            stopOnAbortSignal: true,
            onToken: list => { written += list.length; onTokens(list.length); },
            onTextChunk: content => {
                if (!wanted.stream || content === "" || signal.aborted) return;
                open();
                send({choices: [choice({content})], ...usageMember});
            },
        });
        if (signal.aborted) return;

        const finish_reason = metadata.stopReason === "maxTokens" ? "length" : "stop";
        const usage = {prompt_tokens: prompt, completion_tokens: written, total_tokens: prompt + written};
        if (wanted.stream) {
            open();
            send({choices: [choice({}, finish_reason)], ...usageMember});
            if (wanted.includeUsage) send({choices: [], usage});
            res.end("data: [DONE]\n\n");
        } else {
            const message = {role: "assistant", content: response, refusal: null};
            json(res, 200, {...common, object: "chat.completion", choices: [{index: 0, message, logprobs: null, finish_reason}], usage});
        }
    } finally {
        session.dispose();
    }
}

function json(res, status, body, headers = {}) {
    const text = JSON.stringify(body) + "\n";
    res.writeHead(status, {"content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers});
    res.end(text);
}

const routes = {
    "/health": {GET: (_, res) => json(res, 200, {status: "ok"})},
    "/stats": {GET: (_, res) => json(res, 200, stats)},
    "/v1/models": {GET: (_, res) => json(res, 200, {object: "list", data: [{id: flags.model, object: "model", created: 0, owned_by: "weir-example"}]})},
    "/v1/chat/completions": {POST: chat},
};

const server = http.createServer(async (req, res) => {
    try {
        const path = req.url.split("?", 1)[0];
        const methods = Object.hasOwn(routes, path) ? routes[path] : undefined;
        if (!methods) throw new Refusal(404, `there is nothing at ${req.method} ${path}`);
        const answer = methods[req.method];
        if (!answer) throw new Refusal(405, `${path} does not know ${req.method}`, {headers: {allow: Object.keys(methods).join(", ")}});
        await answer(req, res);
    } catch (error) {
        const refusal = error instanceof Refusal ? error : new Refusal(500, error.message, {type: "server_error"});
        if (res.destroyed) return;
        if (!res.headersSent) {
            // An unread rest of a body would be taken for the next request.
            const close = req.complete ? {} : {connection: "close"};
            json(res, refusal.status, refusal.body, {...refusal.headers, ...close});
        } else {
            // Too late for a status: the SDKs raise on an event with `error`, and a stream that is
            // cut before [DONE] cannot be mistaken for a whole one.
            res.write(`data: ${JSON.stringify(refusal.body)}\n\n`, () => res.destroy());
        }
    }
});
// A gateway keeps connections for reuse. Node's own 5 seconds would close them under its hands.
server.keepAliveTimeout = 90_000;
server.on("error", error => { console.error(`${flags.name} cannot listen: ${error.message}`); process.exit(1); });
server.listen(Number(flags.port), "127.0.0.1", () => {
    const {port} = server.address();
    log("ready", {url: `http://127.0.0.1:${port}`});
    if (flags["port-file"]) {
        writeFileSync(flags["port-file"] + ".part", `${port}\n`);
        renameSync(flags["port-file"] + ".part", flags["port-file"]);
    }
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0));
