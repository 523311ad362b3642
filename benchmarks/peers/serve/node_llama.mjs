// llama.cpp's native build by node-llama-cpp: node THIS INSTALL_FOLDER GGUF STREAMS CONTEXT
//
// Decodes without a server. Prints {"ready": true}, then answers each line of its input (a load of
// load_targets.py) with the tokens, wall seconds and processor seconds that it took. All sequences
// of one context are decoded in one batch; one thread computes.

import {createInterface} from "node:readline";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [install, gguf, streams, size] = process.argv.slice(2);
const entry = join(install, "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);

const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, maxThreads: 1, logLevel: LlamaLogLevel.error
});
const model = await llama.loadModel({modelPath: gguf, gpuLayers: 0});
const context = await model.createContext({
    sequences: Number(streams), contextSize: Number(size), threads: 1, batchSize: 512
});
const sequences = Array.from({length: Number(streams)}, () => context.getSequence());

async function answer(sequence, prompt, load, index) {
    await sequence.clearHistory();
    const sampling = load.temperature > 0
        ? {temperature: load.temperature, topP: load.top_p, topK: 0, minP: 0, seed: load.seed + index}
        : {temperature: 0};
    const tokens = [];
    for await (const token of sequence.evaluate(prompt, {...sampling, yieldEogToken: true})) {
        tokens.push(token);
        if (tokens.length >= load.tokens) break;
    }
    return tokens;
}

async function run(load) {
    const prompts = load.prompts.map((text) => [model.tokens.bos, ...model.tokenize(text)]);
    const answers = new Array(prompts.length);
    let next = 0;
    const used = process.cpuUsage(), began = process.hrtime.bigint();
    await Promise.all(sequences.slice(0, load.streams).map(async (sequence) => {
        while (next < prompts.length) {
            const index = next++;
            answers[index] = await answer(sequence, prompts[index], load, index);
        }
    }));
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    const {user, system} = process.cpuUsage(used);
    const tokens = answers.reduce((sum, answer) => sum + answer.length, 0);
    const texts = load.texts ? answers.map((answer) => model.detokenize(answer)) : [];
    return {tokens, seconds, processor: (user + system) / 1e6, texts};
}

function write(value) {
    process.stdout.write(JSON.stringify(value) + "\n");
}

write({ready: true});
for await (const line of createInterface({input: process.stdin})) write(await run(JSON.parse(line)));
await llama.dispose();
