// How the page speaks with the server: who is signed in, calls, writes that survive a reload, streams, the server's time.
import { t } from './words.js';

const WATCH_SILENCE_MS = 40_000; // the server says something every 15 s
const HIDDEN_MS = 30_000; // a browser has six connections to one host: tabs that nobody sees give theirs back
const INTENT_MS = 10 * 60_000; // what is older is not sent again: nobody would expect it any more
const WAIT = '10s';

export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    const info = body?.details?.find((detail) => detail.reason) ?? {};
    const known = t.known(`reason.${info.reason}`);
    super(known ?? body?.message ?? t('error.status', { status }));
    Object.assign(this, { status, reason: info.reason ?? '', retryAfter, title: status ? t('error.title') : t('error.offline') });
  }

  // Nobody knows whether it had an effect, or it had none because of too many: send the same again.
  get isUnknown() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status === 499 || this.status >= 500;
  }
}

// --- who

const ROLES = { BUYER: ['buyer', 'operator'], ORGANISER: ['organiser', 'operator'] };

export function session(role) {
  const kept = read(`session.${role}`);
  return kept && Date.parse(kept.expire_time) > now() ? kept : null;
}

// Who was signed in last, even if the token has run out.
export const lastName = () => read('name') ?? '';

export async function signIn(name, role) {
  const made = await request('POST', '/v1/session', { name, role });
  keepSession(role, { token: made.token, name: made.subject, expire_time: made.expire_time, local: true });
}

export function signInByToken(token, role) {
  let claims;
  try {
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(
      atob(token.trim().split('.')[1].replace(/-/g, '+').replace(/_/g, '/')), (letter) => letter.charCodeAt(0))));
  } catch {
    throw new Error(t('sign.malformed'));
  }
  if (!claims.roles?.some((one) => ROLES[role].includes(one))) throw new Error(t('sign.role'));
  if (!(claims.exp * 1000 > now())) throw new Error(t('sign.expired'));
  keepSession(role, { token: token.trim(), name: claims.sub, expire_time: new Date(claims.exp * 1000).toISOString(), local: false });
}

function keepSession(role, made) {
  write(`session.${role}`, made);
  write('name', made.name);
  changed.dispatchEvent(new Event('session'));
}

export function signOut() {
  for (const role of Object.keys(ROLES)) localStorage.removeItem(`session.${role}`);
  changed.dispatchEvent(new Event('session'));
}

// A local session is renewed by itself; a token from elsewhere has to be brought again.
async function renewed(role) {
  const kept = read(`session.${role}`);
  if (!kept?.local) return false;
  await signIn(kept.name, role);
  return true;
}

// --- the server's time

export const changed = new EventTarget();
let low = -Infinity;
let high = Infinity;

// The header Date has whole seconds: at some moment between sent and received the server's clock showed that second.
function observe(header, sent, received) {
  const second = Date.parse(header);
  if (Number.isNaN(second)) return;
  const least = second - received;
  const most = second + 1000 - sent;
  if (least > high || most < low) [low, high] = [least, most]; // one of the clocks was set
  else [low, high] = [Math.max(low, least), Math.min(high, most)];
}

export function now() {
  return Date.now() + (Number.isFinite(low) ? (low + high) / 2 : 0);
}

// --- calls

export async function request(method, path, body, { role, signal } = {}) {
  const answer = await ask(method, path, { body, role, signal });
  return answer.json();
}

async function ask(method, path, { body, role, signal, accept = 'application/json' }, again = true) {
  const headers = { accept };
  if (role) {
    if (!session(role) && !(await renewed(role))) throw new Refusal(401, { details: [{ reason: 'TOKEN_MISSING' }] });
    headers.authorization = `Bearer ${session(role).token}`;
  }
  if (body) headers['content-type'] = 'application/json';
  const sent = Date.now();
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: 'no-store', credentials: 'omit' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, { message: t('error.offline.text') });
  }
  observe(answer.headers.get('date'), sent, Date.now());
  if (answer.ok) return answer;
  if (answer.status === 401 && role && again && (await renewed(role))) return ask(method, path, { body, role, signal, accept }, false);
  throw new Refusal(answer.status, await answer.json().catch(() => null), Number(answer.headers.get('retry-after')) || 0);
}

// Every page of a listing, one after the other.
export async function* pages(path, query, role, size = 500) {
  let token = '';
  do {
    const asked = new URLSearchParams({ ...query, page_size: size, ...(token && { page_token: token }) });
    const page = await request('GET', `${path}?${asked}`, null, { role });
    yield page;
    token = page.next_page_token;
  } while (token);
}

// --- writes that survive a reload

// An intention is kept before it is sent, and until its outcome is known: whoever comes back sends the same request_id again.
export function intend(kind, role, path, body, about = {}, id = crypto.randomUUID()) {
  const intent = { id, kind, role, name: session(role)?.name ?? '', path, body, about, time: Date.now() };
  write(`intent.${intent.id}`, intent);
  return intent;
}

export function intents(kind, matches = () => true) {
  const found = [];
  for (const key of Object.keys(localStorage).filter((name) => name.startsWith('intent.'))) {
    const intent = read(key);
    if (!intent || Date.now() - intent.time > INTENT_MS) localStorage.removeItem(key);
    else if ((!kind || intent.kind === kind) && intent.name === read(`session.${intent.role}`)?.name && matches(intent)) found.push(intent);
  }
  return found.sort((one, other) => one.time - other.time);
}

const running = new Map();

// Sends it until its outcome is known. Who asks for one that is under way gets that one's outcome.
export function settle(intent, told = () => {}) {
  if (!running.has(intent.id)) running.set(intent.id, untilKnown(intent).finally(() => running.delete(intent.id)));
  changed.addEventListener(`trouble.${intent.id}`, told);
  return running.get(intent.id).finally(() => changed.removeEventListener(`trouble.${intent.id}`, told));
}

async function untilKnown(intent) {
  const forget = () => localStorage.removeItem(`intent.${intent.id}`);
  for (let attempt = 0; ; attempt++) {
    let delay = Math.min(8_000, 300 * 2 ** attempt) * (0.5 + Math.random() / 2);
    try {
      const answer = await request('POST', intent.path, { request_id: intent.id, ...intent.body }, { role: intent.role });
      const result = answer.payment ?? answer.reservation ?? {};
      if (result.state !== 'STATE_PENDING') {
        forget();
        return answer;
      }
    } catch (error) {
      if (!error.isUnknown) {
        // Whoever has to sign in again goes on afterwards.
        if (error.status !== 401) forget();
        throw error;
      }
      if (Date.now() - intent.time > INTENT_MS) {
        forget();
        throw error;
      }
      delay = Math.max(delay, error.retryAfter * 1000);
    }
    changed.dispatchEvent(new Event(`trouble.${intent.id}`));
    await rest(delay);
  }
}

export const reserve = (body, about) => intend('reserve', 'BUYER', '/v1/reservations', { ...body, buyer_id: session('BUYER').name, wait: WAIT }, about);

export const pay = (id, body) =>
  intend('pay', 'BUYER', `/v1/reservations/${id}:pay`, { ...body, buyer_id: session('BUYER').name, wait: WAIT }, { reservation_id: id });

export const giveBack = (id) =>
  intend('cancel', 'BUYER', `/v1/reservations/${id}:cancel`, { buyer_id: session('BUYER').name, wait: WAIT }, { reservation_id: id });

// --- streams

// Follows a stream for as long as it matters; tells each message, and how the link does: live, lost, ended or refused.
export function watch(path, { role, message, link = () => {} }) {
  const life = new AbortController();
  follow(path, role, message, link, life.signal).catch((error) => { if (!life.signal.aborted) throw error; });
  return () => life.abort();
}

async function follow(path, role, message, link, signal) {
  for (let attempt = 0; !signal.aborted; attempt++) {
    await visible(signal);
    let delay = Math.min(5_000, 250 * 2 ** attempt) * (0.5 + Math.random() / 2);
    try {
      const end = await listen(path, role, signal, (told) => {
        attempt = 0;
        link('live');
        message(told);
      });
      if (end?.code === 0) return link('ended');
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refusal && !error.isUnknown) return link('refused', error);
      delay = Math.max(delay, (error.retryAfter ?? 0) * 1000);
    }
    if (signal.aborted) return;
    if (!document.hidden) link('lost');
    await rest(delay);
  }
}

// One connection; what it ended with.
async function listen(path, role, signal, message) {
  const one = new AbortController();
  const stop = () => one.abort();
  let silence = setTimeout(stop, WATCH_SILENCE_MS);
  let unseen;
  const hide = () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(stop, HIDDEN_MS);
  };
  signal.addEventListener('abort', stop);
  document.addEventListener('visibilitychange', hide);
  try {
    const answer = await ask('GET', path, { role, signal: one.signal, accept: 'text/event-stream' });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return null;
      clearTimeout(silence);
      silence = setTimeout(stop, WATCH_SILENCE_MS);
      rest += value;
      for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
        const [block, size] = [rest.slice(0, end), end];
        rest = rest.slice(end + 2);
        if (block.startsWith('event: end')) return JSON.parse(block.slice(block.indexOf('data: ') + 6));
        if (block.startsWith('data: ')) message(JSON.parse(block.slice(6)));
        // A snapshot is a megabyte: other work comes in between its parts.
        if (size > 50_000) await new Promise((resolve) => { setTimeout(resolve); });
      }
    }
  } finally {
    clearTimeout(silence);
    clearTimeout(unseen);
    signal.removeEventListener('abort', stop);
    document.removeEventListener('visibilitychange', hide);
    one.abort();
  }
}

function visible(signal) {
  if (!document.hidden) return null;
  return new Promise((resolve) => {
    document.addEventListener('visibilitychange', resolve, { once: true });
    signal.addEventListener('abort', resolve, { once: true });
  });
}

// Ends early when the browser says that the network is back.
function rest(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      removeEventListener('online', done);
      resolve();
    }
    addEventListener('online', done);
  });
}

// --- what is kept

export function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

export function write(name, value) {
  localStorage.setItem(name, JSON.stringify(value));
}
