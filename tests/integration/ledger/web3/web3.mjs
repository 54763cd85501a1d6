// Drives a node with @solana/web3.js: node web3.mjs <package directory> <http url> <ws url>; prints what it saw as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [directory, url, wsEndpoint] = process.argv.slice(2);
const web3 = createRequire(`${directory}/package.json`)("@solana/web3.js");
const connection = new web3.Connection(url, { commitment: "confirmed", wsEndpoint });
// A cluster's faucet gives little; ACGS_CONFORMANCE_PAYER names a keypair file that pays instead.
const file = process.env.ACGS_CONFORMANCE_PAYER;
const payer = file ? web3.Keypair.fromSecretKey(Uint8Array.from(JSON.parse(readFileSync(file, "utf8")))) : web3.Keypair.generate();
const to = web3.Keypair.generate().publicKey;

const latest = await connection.getLatestBlockhash();
if (!file) {
  const airdrop = await connection.requestAirdrop(payer.publicKey, 1_000_000_000);
  await connection.confirmTransaction({ signature: airdrop, ...latest });
}

const told = {};
const account = new Promise((done) => connection.onAccountChange(to, (info) => done((told.account ??= info.lamports))));
const logs = new Promise((done) => connection.onLogs(to, (entry) => done((told.logs ??= entry.signature))));
const slot = new Promise((done) => connection.onSlotChange((info) => done((told.slot ??= info.slot))));
// A subscription has no promise of its own: ask until the node has all three.
while (Object.values(connection._subscriptionsByHash).filter((s) => s.state === "subscribed").length < 3)
  await new Promise((done) => setTimeout(done, 20));

const transfer = web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: to, lamports: 2_000_000 });
const simulated = await connection.simulateTransaction(
  new web3.VersionedTransaction(
    new web3.TransactionMessage({ payerKey: payer.publicKey, recentBlockhash: latest.blockhash, instructions: [transfer] }).compileToV0Message(),
  ),
);
// Confirms by signatureSubscribe.
const signature = await web3.sendAndConfirmTransaction(connection, new web3.Transaction().add(transfer), [payer]);
await Promise.all([account, logs, slot]);
// Behind one address of a cluster there are many endpoints, not all of which know it at once.
const eventually = async (ask, told) => {
  for (let answer; ; await new Promise((done) => setTimeout(done, 500))) if (told((answer = await ask()))) return answer;
};
const found = await eventually(() => connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 }), Boolean);
const balance = await eventually(() => connection.getBalance(to), Boolean);
const history = await eventually(() => connection.getSignaturesForAddress(to), (found) => found.length);
const pay = (lamports, recentBlockhash) => {
  const tx = new web3.Transaction({ feePayer: payer.publicKey, recentBlockhash }).add(
    web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: to, lamports }),
  );
  tx.sign(payer);
  return tx.serialize();
};
const refusal = (promise) => promise.then(() => null, (error) => error);
const call = (method, ...params) => connection._rpcRequest(method, params);
const code = async (method, ...params) => (await call(method, ...params)).error?.code;

const valid = [];
const never = web3.Keypair.generate().publicKey.toBase58();
for (const blockhash of [latest.blockhash, never]) valid.push((await connection.isBlockhashValid(blockhash, { commitment: "confirmed" })).value);

const encodings = {};
for (const encoding of ["base58", "base64", "jsonParsed"])
  encodings[encoding] = (await call("getAccountInfo", to.toBase58(), { encoding, commitment: "confirmed" })).result.value.lamports;
const commitments = {};
for (const commitment of ["processed", "confirmed", "finalized"])
  commitments[commitment] = await eventually(() => connection.getBalance(to, commitment), Boolean);
const { accountKeys } = (await eventually(() => connection.getParsedTransaction(signature, { maxSupportedTransactionVersion: 0 }), Boolean)).transaction.message;
const paying = accountKeys.find((key) => key.pubkey.equals(payer.publicKey));

const recent = async () => (await connection.getLatestBlockhash()).blockhash;
const refused = await refusal(connection.sendRawTransaction(pay(10 ** 15, await recent())));
const failing = await connection.sendRawTransaction(pay(10 ** 15, await recent()), { skipPreflight: true });
const failed = await eventually(() => connection.getSignatureStatus(failing), (status) => status.value?.err);
const once = pay(1_000_001, await recent());
const first = await connection.sendRawTransaction(once);
await eventually(() => connection.getSignatureStatus(first), (status) => ["confirmed", "finalized"].includes(status.value?.confirmationStatus));
const duplicate = await refusal(connection.sendRawTransaction(once));
const unknown = await refusal(connection.sendRawTransaction(pay(1_000_002, never)));
const base58 = createRequire(`${directory}/node_modules/@solana/web3.js/package.json`)("bs58");
const encoded = await call("sendTransaction", base58.encode(pay(1_000_003, await recent())), { encoding: "base58", preflightCommitment: "confirmed" });
const landed = await eventually(() => connection.getSignatureStatus(encoded.result), (status) => status.value);

const unsigned = Buffer.from(pay(1_000_004, await recent()));
unsigned.fill(0, 1, 65);
const wire = (bytes) => Buffer.from(bytes).toString("base64");
const codes = {
  method: await code("getNothing"),
  address: await code("getBalance", "nobody"),
  commitment: await code("getBalance", to.toBase58(), { commitment: "soon" }),
  signature: await code("getTransaction", "none"),
  unsigned: await code("sendTransaction", wire(unsigned), { encoding: "base64" }),
  preflight: await code("sendTransaction", wire(pay(10 ** 15, await recent())), { encoding: "base64", preflightCommitment: "confirmed" }),
  context: await code("getBalance", to.toBase58(), { minContextSlot: 10 ** 12 }),
  future: await code("getBlockTime", 10 ** 12),
};
console.log(
  JSON.stringify({
    told,
    signature,
    balance,
    simulated: simulated.value.err,
    fee: found.meta.fee,
    history: history.map((entry) => entry.signature),
    version: (await connection.getVersion())["solana-core"],
    valid,
    times: [found.blockTime, await connection.getBlockTime(found.slot)],
    encodings,
    commitments,
    paying: [paying.signer, paying.writable],
    base58: landed.value.err === null ? "landed" : landed.value.err,
    refused: [refused.constructor.name, refused.message, refused.logs ?? []],
    failed: failed.value.err,
    duplicate: duplicate?.message ?? "taken twice",
    unknown_blockhash: unknown?.message ?? "taken",
    codes,
  }),
);
process.exit(0);
