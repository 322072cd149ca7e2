// The page's frame: what is shown at which address, who is signed in, which language.
import * as api from './api.js';
import { eventView } from './event.js';
import { orderView, ordersView } from './order.js';
import { addTickets, eventOfficeView, newEventView, officeView } from './organiser.js';
import { ask, busy, count, field, form, h, notice, say, whenShort } from './ui.js';
import { language, languages, locale, setLanguage, t } from './words.js';

const EVENTS_AGAIN_MS = 10_000;

const routes = [
  [/^#\/event\/([0-9a-f-]+)$/, eventView],
  [/^#\/order\/([0-9a-f-]+)$/, orderView],
  [/^#\/orders$/, ordersView],
  [/^#\/organise$/, officeView],
  [/^#\/organise\/new$/, newEventView],
  [/^#\/organise\/([0-9a-f-]+)$/, eventOfficeView],
  [/^/, eventsView],
];
const isOffice = () => location.hash.startsWith('#/organise');
const role = () => (isOffice() ? 'ORGANISER' : 'BUYER');

// What a view gets: how to go elsewhere, how to sign somebody in, and how to name the page.
const frame = {
  go: (hash) => { location.hash = hash; },
  signedIn: async (wanted) => Boolean(api.session(wanted)) || (await signIn(wanted)),
  title: (text) => { document.title = `${text} · TicketRush`; },
};

let current = null;
let shown = null;

function show(focus = true) {
  current?.close?.();
  document.documentElement.lang = language();
  const [pattern, view] = routes.find(([one]) => one.test(location.hash));
  const [, id] = location.hash.match(pattern);
  const needsSignIn = [ordersView, orderView, officeView, newEventView, eventOfficeView].includes(view) && !api.session(role()) && !api.read(`session.${role()}`)?.local;
  current = needsSignIn ? signInView() : view(frame, id);
  document.getElementById('main').replaceChildren(current.element);
  drawTop();
  if (focus && shown !== null && shown !== location.hash) {
    const title = current.element.querySelector('h1');
    title?.setAttribute('tabindex', '-1');
    (title ?? document.getElementById('main')).focus();
    scrollTo(0, 0);
  }
  shown = location.hash;
}

function drawTop() {
  const link = (hash, text, here) => h('a', { href: hash, 'aria-current': here ? 'page' : null }, text);
  const who = api.session(role());
  const at = location.hash;
  document.getElementById('top').replaceChildren(
    h('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); document.getElementById('main').focus(); } }, t('skip')),
    h('a', { class: 'brand', href: '#/' }, h('img', { src: '/page/icon.svg', alt: '', width: 28, height: 28 }), 'TicketRush'),
    h('nav', { 'aria-label': t('nav') },
      link('#/', t('nav.events'), !isOffice() && !/^#\/orders?(\/|$)/.test(at)),
      link('#/orders', t('nav.orders'), /^#\/orders?(\/|$)/.test(at)),
      link('#/organise', t('nav.organise'), isOffice())),
    who
      ? h('div', { class: 'who' }, h('span', { class: 'name' }, who.name),
        h('button', { type: 'button', class: 'plain', onclick: () => api.signOut() }, t('sign.out')))
      : h('div', { class: 'who' }, h('button', { type: 'button', class: 'second', onclick: () => signIn(role()) }, t('sign.in'))),
  );
  document.getElementById('foot').replaceChildren(
    h('label', {}, t('language'), ' ',
      h('select', { onchange: (event) => { setLanguage(event.target.value); show(false); } },
        Object.entries(languages).map(([code, name]) => h('option', { value: code, lang: code, ...(code === language() && { selected: true }) }, name)))),
    h('a', { href: '/docs' }, t('foot.api')),
  );
}

// --- signing in

function signInForm(wanted, done) {
  const name = h('input', { name: 'name', required: true, maxlength: 64, pattern: '[A-Za-z0-9._@:\\-]{1,64}', autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', value: api.lastName() });
  name.addEventListener('input', () => name.setCustomValidity(''));
  name.addEventListener('invalid', () => name.setCustomValidity(name.value ? t('sign.name.form') : t('sign.name.missing')));
  const token = h('textarea', { name: 'token', rows: 3, required: true, spellcheck: 'false', autocomplete: 'off' });
  const byToken = h('details', {}, h('summary', {}, t('sign.token')),
    form({}, () => { api.signInByToken(token.value, wanted); done(true); }, field(t('sign.token.label'), token), h('button', { class: 'second' }, t('sign.token.use'))));
  const byName = form({}, async () => {
    try {
      await api.signIn(name.value.trim(), wanted);
    } catch (error) {
      if (error.status !== 404) throw error;
      byToken.open = true; // this server knows nobody by name
      throw new Error(t('sign.no.local'));
    }
    done(true);
  }, field(t('sign.name'), name, wanted === 'ORGANISER' ? t('sign.hint.organiser') : t('sign.hint.buyer')), h('button', {}, t('sign.in')));
  return h('div', { class: 'sign' }, byName, byToken);
}

async function signIn(wanted) {
  return Boolean(await ask(t(wanted === 'ORGANISER' ? 'sign.title.organiser' : 'sign.title.buyer'), (done) => signInForm(wanted, done)));
}

function signInView() {
  frame.title(t('sign.in'));
  return { element: h('div', { class: 'narrow card' },
    h('h1', {}, t(isOffice() ? 'sign.title.organiser' : 'sign.title.buyer')), signInForm(role(), () => {})) };
}

// --- events

function eventsView() {
  frame.title(t('nav.events'));
  const list = h('ul', { class: 'events' });
  const problem = h('div', {});
  const more = h('div', { class: 'actions' });
  let token = '';
  let many = 50;
  let timer;
  const load = async () => {
    clearTimeout(timer);
    try {
      const page = await api.request('GET', `/v1/events?page_size=${many}`, null, {});
      token = page.next_page_token;
      problem.replaceChildren();
      list.replaceChildren(...page.events.map(card));
      if (!page.events.length) problem.replaceChildren(notice('info', t('events.none'), t('events.none.text'), h('a', { href: '#/organise/new' }, t('office.new'))));
      more.replaceChildren(...(token && many < 500
        ? [h('button', { type: 'button', class: 'second', onclick: (event) => { many = 500; return busy(event.target, problem, load); } }, t('more'))] : []));
    } catch (error) {
      problem.replaceChildren(notice('bad', error.title ?? t('error.title'), error.message));
    }
    if (element.isConnected) timer = setTimeout(() => (document.hidden ? (timer = setTimeout(load, EVENTS_AGAIN_MS)) : load()), EVENTS_AGAIN_MS);
  };
  const element = h('div', {}, h('h1', {}, t('events.title')), problem, list, more);
  queueMicrotask(load);
  return { element, close: () => clearTimeout(timer) };
}

function card(event) {
  const free = Number(event.available_count);
  const total = free + Number(event.held_count) + Number(event.sold_count);
  const opens = event.sale_start_time && Date.parse(event.sale_start_time) > api.now();
  const over = event.sale_end_time && Date.parse(event.sale_end_time) <= api.now();
  const left = event.state === 'STATE_CANCELLED' ? ['bad', t('event.cancelled')]
    : event.state === 'STATE_CLOSED' || over ? ['quiet', t('event.closed')]
      : opens ? ['quiet', t('event.opens', { time: whenShort(event.sale_start_time) })]
        : total === 0 ? ['quiet', t('event.soon')]
          : free === 0 ? ['bad', Number(event.held_count) ? t('event.all.held') : t('event.sold.out')]
            : [free < total / 10 ? 'few' : 'good', t('event.left', { n: free, number: count(free) })];
  return h('li', {}, h('a', { class: 'card event', href: `#/event/${event.event_id}` },
    event.start_time && h('time', { class: 'date', datetime: event.start_time, 'aria-hidden': 'true' }, ...dateParts(event.start_time)),
    h('span', { class: 'about' }, h('strong', {}, event.name),
      h('span', { class: 'quiet' }, [event.start_time && whenShort(event.start_time), event.venue].filter(Boolean).join(' · '))),
    h('span', { class: `left ${left[0]}` }, left[1])));
}

function dateParts(time) {
  const part = (options) => new Intl.DateTimeFormat(locale(), options).format(new Date(time));
  return [h('b', {}, part({ day: 'numeric' })), h('span', {}, part({ month: 'short' }))];
}

// --- begin

function resume() {
  for (const intent of api.intents()) {
    api.settle(intent).then((answer) => {
      if (intent.kind === 'create') return addTickets(answer.event.event_id, intent.about);
      return null;
    }).catch(() => {}); // its view says what became of it
  }
}

addEventListener('hashchange', () => show());
addEventListener('storage', (event) => {
  if (event.key === null || event.key.startsWith('session.')) drawTop();
});
api.changed.addEventListener('session', () => {
  say(api.session(role()) ? t('sign.done', { name: api.session(role()).name }) : t('sign.gone'));
  resume();
  // A view in which somebody is choosing seats goes on; others are other people's.
  if (current?.session) {
    current.session();
    drawTop();
  } else show(false);
});
resume();
show();
