// Anchor's own TypeScript client against the shipped program, from the IDL alone: every instruction is built, every
// account type and every event that occurs is decoded. Prints one JSON report; any mismatch throws.
//   node run.mjs [directory of the built program and its IDL]
import anchor from '@coral-xyz/anchor';
import * as web3 from '@solana/web3.js';
import * as kit from '@solana/kit';
import { FailedTransactionMetadata, LiteSVM } from 'litesvm';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const artifacts = `${process.argv[2] ?? new URL('../../../src/acgs1/ledger/artifacts', import.meta.url).pathname}/`;
const idl = JSON.parse(readFileSync(`${artifacts}quantumagi_core.json`, 'utf8'));
const payer = web3.Keypair.generate();
const svm = new LiteSVM();
// Reads go to the machine: that is how the client resolves addresses from what accounts hold.
const connection = {
  getAccountInfo: async (key) => {
    const account = svm.getAccount(kit.address(key.toBase58()));
    if (!account || account.exists === false) return null;
    return { data: Buffer.from(account.data), owner: program.programId, lamports: Number(account.lamports), executable: false };
  },
};
connection.getAccountInfoAndContext = async (key) => ({ context: { slot: 1 }, value: await connection.getAccountInfo(key) });
const program = new anchor.Program(idl, { publicKey: payer.publicKey, connection });
svm.addProgramFromFile(kit.address(program.programId.toBase58()), `${artifacts}quantumagi_core.so`);
svm.airdrop(kit.address(payer.publicKey.toBase58()), kit.lamports(10_000_000_000_000n));

const sha = (text) => [...createHash('sha256').update(text).digest()];
const zeros = Array(32).fill(0);
const bn = (n) => new anchor.BN(n);
const pda = (...seeds) => web3.PublicKey.findProgramAddressSync(seeds.map((s) => Buffer.from(s)), program.programId)[0];
const le = (n, size) => { const b = Buffer.alloc(size); b.writeUIntLE(n, 0, Math.min(size, 6)); return b; };
const at = {
  governance: pda('governance'), anchor: pda('anchor'),
  principle: (i) => pda('principle', le(i, 2)), member: (w) => pda('member', w.toBuffer()),
  proposal: (i) => pda('proposal', le(i, 8)), emergency: (i) => pda('emergency', le(i, 8)),
  policy: (h) => pda('policy', Buffer.from(h)), attestation: (h) => pda('attestation', Buffer.from(h)),
};
const built = new Set(), events = new Set(), decoded = new Set();
const parser = new anchor.EventParser(program.programId, program.coder);

async function make(name, args, accounts) {
  const ix = await program.methods[name](...args).accountsPartial(accounts).instruction();
  built.add(name);
  return ix;
}
function send(...ixs) {
  svm.expireBlockhash();
  const tx = new web3.Transaction();
  tx.recentBlockhash = svm.latestBlockhash();
  tx.feePayer = payer.publicKey;
  tx.add(...ixs);
  tx.sign(payer);
  const result = svm.sendTransaction(kit.getTransactionDecoder().decode(tx.serialize()));
  if (result instanceof FailedTransactionMetadata) throw new Error(result.meta().logs().join('\n'));
  for (const event of parser.parseLogs(result.logs())) events.add(event.name);
  return result;
}
const run = async (name, args, accounts) => send(await make(name, args, accounts));
async function read(type, address) {
  const account = svm.getAccount(kit.address(address.toBase58()));
  decoded.add(type);
  return program.coder.accounts.decode(type, Buffer.from(account.data));
}

const me = payer.publicKey;
await run('initialize', [me, me, me, me, sha('c0'), bn(86400), 6000, 5000, false], { payer: me });
await run('addPrinciple', [sha('p0'), sha('c1'), 'No harm'], { authority: me, principle: at.principle(0), proposal: null });
await run('amendPrinciple', [0, sha('p1'), sha('c2'), 'No harm at all'], { authority: me, proposal: null });
await run('addPrinciple', [sha('q'), sha('c3'), 'Other'], { authority: me, principle: at.principle(1), proposal: null });
await run('retirePrinciple', [1, sha('c4')], { authority: me, proposal: null });
await run('registerMember', [me, bn(7)], { authority: me, proposal: null });
await run('setWeight', [me, bn('18446744073709551615')], { authority: me, proposal: null });
const other = web3.Keypair.generate().publicKey;
await run('setWeight', [me, bn(7)], { authority: me, proposal: null });
await run('registerMember', [other, bn(1)], { authority: me, proposal: null });
await run('removeMember', [other], { authority: me, proposal: null });
await run('setParameters', [bn(3600), 6500, 4000, false], { authority: me, proposal: null });
await run('ratify', [sha('c4')], { council: me });
const governance = await read('governance', at.governance);
assert.equal(governance.thresholdBp, 6500);
assert.equal(governance.ratified, true);
assert.deepEqual(governance.constitutionHash, sha('c4'));
const principle = await read('principle', at.principle(0));
assert.equal(Buffer.from(principle.title).subarray(0, principle.titleLen).toString(), 'No harm at all');
assert.equal((await read('member', at.member(me))).weights[0].toString(), '7');

await run('propose', [{ policy: {} }, sha('policy'), sha('cert'), bn(3600)], { proposer: me, proposal: at.proposal(0), emergency: null });
await run('vote', [{ for: {} }], { voter: me, proposal: at.proposal(0) });
const proposal = await read('proposal', at.proposal(0));
assert.deepEqual(proposal.kind, { policy: {} });
assert.equal(proposal.votesFor.toString(), '7');
assert.deepEqual([...proposal.ballots], [1]);
await run('finalize', [], { proposal: at.proposal(0), proposer: me });
await run('attest', [sha('cert'), sha('policy'), 1], { verifier: me });
assert.deepEqual((await read('attestation', at.attestation(sha('cert')))).contentHash, sha('policy'));
await run('enact', [], {
  payer: me, proposal: at.proposal(0), policy: at.policy(sha('policy')), attestation: at.attestation(sha('cert')), emergency: null,
});
assert.equal((await read('policy', at.policy(sha('policy')))).constitutionVersion, 1);
await run('closeProposal', [], { proposer: me, proposal: at.proposal(0) });
await run('revokeAttestation', [], { verifier: me, attestation: at.attestation(sha('cert')) });

await run('propose', [{ constitution: {} }, sha('c5'), zeros, bn(3600)], { proposer: me, proposal: at.proposal(1), emergency: null });
await run('vote', [{ for: {} }], { voter: me, proposal: at.proposal(1) });
await run('finalize', [], { proposal: at.proposal(1), proposer: me });
await run('enact', [], { payer: me, proposal: at.proposal(1), policy: null, attestation: null, emergency: null });
// Anchor's client fills in the instructions sysvar by its address; with `exclude_bumps` before it the search is shared out.
const bumpOf = (...seeds) => web3.PublicKey.findProgramAddressSync(seeds, program.programId)[1];
const exclude = async (...seeds) => make('excludeBumps', [bumpOf(...seeds) + 1, Buffer.concat(seeds)], {});
const searched = [...Array(100).keys()].map((i) => [Buffer.from('proposal'), le(i, 8)]).find((seeds) => bumpOf(...seeds) < 255);
send(await exclude(...searched));
const seeds = [Buffer.from('proposal'), le(2, 8)];
const late = await make('propose', [{ constitution: {} }, sha('c6'), zeros, bn(3600)], { proposer: me, proposal: at.proposal(2), emergency: null });
send(...(bumpOf(...seeds) < 255 ? [await exclude(...seeds), late] : [late]));
await run('cancel', [], { proposer: me, proposal: at.proposal(2) });
await assert.rejects(run('vote', [{ for: {} }], { voter: me, proposal: at.proposal(2) }), /0x1772/); // ProposalNotActive

await run('emergencyAction', [{ suspendPolicy: {} }, sha('policy'), sha('why'), bn(60)], {
  authority: me, emergency: at.emergency(0), policy: at.policy(sha('policy')),
});
assert.deepEqual((await read('emergency', at.emergency(0))).kind, { suspendPolicy: {} });
await run('endEmergency', [], { authority: me, emergency: at.emergency(0), policy: at.policy(sha('policy')) });
const agent = sha('agent');
await run('emergencyAction', [{ revokeAgent: {} }, agent, sha('why'), bn(72 * 3600)], {
  authority: me, emergency: pda('emergency', Buffer.from(agent)), policy: null,
});
await run('propose', [{ emergencyRatification: {} }, [...pda('emergency', Buffer.from(agent)).toBytes()], zeros, bn(3600)], {
  proposer: me, proposal: at.proposal(3), emergency: pda('emergency', Buffer.from(agent)),
});
const clock = svm.getClock();
clock.unixTimestamp += BigInt(4 * 24 * 3600);
svm.setClock(clock);
await run('closeEmergency', [], { issuer: me, emergency: at.emergency(0) });
await run('anchorRoot', [bn(5), sha('root')], { authority: me });
assert.equal((await read('logAnchor', at.anchor)).treeSize.toString(), '5');
await run('offerAuthority', [{ log: {} }, me], { holder: me });
await run('acceptAuthority', [{ log: {} }], { candidate: me });

const missing = (all, seen) => all.filter((name) => !seen.has(name));
const camel = (name) => name[0].toLowerCase() + name.slice(1).replace(/_(\w)/g, (_, c) => c.toUpperCase());
const report = {
  client: '@coral-xyz/anchor 0.32.1',
  instructions: built.size, accounts: decoded.size, events: events.size,
  missing: [
    ...missing(idl.instructions.map((i) => camel(i.name)), built),
    ...missing(idl.accounts.map((a) => camel(a.name)), decoded),
    ...missing(idl.events.map((e) => camel(e.name)), events),
  ],
};
console.log(JSON.stringify(report));
assert.deepEqual(report.missing, []);
