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
const account = new Promise((done) => connection.onAccountChange(to, (info) => done((told.account = info.lamports))));
const logs = new Promise((done) => connection.onLogs(to, (entry) => done((told.logs = entry.signature))));
const slot = new Promise((done) => connection.onSlotChange((info) => done((told.slot = info.slot))));
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
const refused = await web3
  .sendAndConfirmTransaction(
    connection,
    new web3.Transaction().add(web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: to, lamports: 10 ** 15 })),
    [payer],
  )
  .catch((error) => error);
const history = await eventually(() => connection.getSignaturesForAddress(to), (found) => found.length);
console.log(
  JSON.stringify({
    told,
    signature,
    balance: await eventually(() => connection.getBalance(to), Boolean),
    simulated: simulated.value.err,
    fee: found.meta.fee,
    refused: [refused.constructor.name, refused.logs?.length > 0],
    history: history.map((entry) => entry.signature),
    version: (await connection.getVersion())["solana-core"],
  }),
);
process.exit(0);
