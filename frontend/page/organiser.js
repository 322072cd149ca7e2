// For organisers: their events, a new one with its seats, the sale as it goes, orders, refunds, CSV.
import * as api from './api.js';
import { stateBadge } from './order.js';
import { Tickets } from './seatmap.js';
import { busy, confirmed, count, digits, field, form, h, money, notice, place, plain, say, svg, toMinor, whenShort } from './ui.js';
import { t } from './words.js';

const ROLE = 'ORGANISER';
const CHART_MS = 1_000;
const CHART_POINTS = 600;
const RATE_MS = 60_000;
const TICKETS_MAX = 100_000;
const SEATS_MAX = 10_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

const me = () => api.read(`session.${ROLE}`)?.name;
const problemOf = (error) => notice('bad', error.title ?? t('error.title'), error.message);

export function officeView(frame) {
  frame.title(t('nav.organise'));
  const list = h('ul', { class: 'events' });
  const problem = h('div', {});
  (async () => {
    try {
      const mine = [];
      for await (const page of api.pages('/v1/events', {}, ROLE)) mine.push(...page.events.filter((event) => event.organiser_id === me()));
      list.replaceChildren(...mine.map((event) => h('li', {}, h('a', { class: 'card event', href: `#/organise/${event.event_id}` },
        h('span', { class: 'about' }, h('strong', {}, event.name), h('span', { class: 'quiet' }, [event.start_time && whenShort(event.start_time), event.venue].filter(Boolean).join(' · '))),
        h('span', { class: 'left quiet' }, t('office.sold.of', { sold: count(event.sold_count), total: count(Number(event.sold_count) + Number(event.held_count) + Number(event.available_count)) })),
        h('span', { class: `badge ${event.state.slice(6).toLowerCase()}` }, t(`event.${event.state.slice(6)}`))))));
      if (!mine.length) problem.replaceChildren(notice('info', t('office.none'), t('office.none.text')));
    } catch (error) {
      problem.replaceChildren(problemOf(error));
    }
  })();
  return { element: h('div', {}, h('div', { class: 'order-head' }, h('h1', {}, t('office.title')), h('a', { class: 'button', href: '#/organise/new' }, t('office.new'))), problem, list) };
}

// --- an event's own fields

function eventFields(event = {}) {
  const local = (time) => {
    if (!time) return '';
    const at = new Date(time);
    return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  };
  const minutes = (span) => (span ? String(Math.round(parseFloat(span) / 60)) : '');
  const inputs = {
    name: h('input', { required: true, maxlength: 200, value: event.name ?? '' }),
    venue: h('input', { maxlength: 200, value: event.venue ?? '' }),
    start_time: h('input', { type: 'datetime-local', value: local(event.start_time) }),
    sale_start_time: h('input', { type: 'datetime-local', value: local(event.sale_start_time) }),
    sale_end_time: h('input', { type: 'datetime-local', value: local(event.sale_end_time) }),
    hold_duration: h('input', { type: 'number', min: 1, max: 1440, value: minutes(event.hold_duration) || '5', required: true }),
    instalment_hold: h('input', { type: 'number', min: 1, max: 43200, value: minutes(event.instalment_hold) || '1', required: true }),
    max_tickets_per_buyer: h('input', { type: 'number', min: 0, max: 10000, value: event.max_tickets_per_buyer ?? 8, required: true }),
  };
  const element = h('div', { class: 'grid' },
    field(t('new.name'), inputs.name), field(t('new.venue'), inputs.venue), field(t('new.start'), inputs.start_time),
    field(t('new.limit'), inputs.max_tickets_per_buyer, t('new.limit.hint')),
    field(t('new.hold'), inputs.hold_duration, t('new.hold.hint')), field(t('new.instalment'), inputs.instalment_hold, t('new.instalment.hint')),
    field(t('new.sale.start'), inputs.sale_start_time, t('new.sale.start.hint')), field(t('new.sale.end'), inputs.sale_end_time, t('new.sale.end.hint')));
  const value = () => {
    const time = (input) => (input.value ? new Date(input.value).toISOString() : null);
    const found = {
      name: inputs.name.value, venue: inputs.venue.value, max_tickets_per_buyer: Number(inputs.max_tickets_per_buyer.value),
      hold_duration: `${inputs.hold_duration.value * 60}s`, instalment_hold: `${inputs.instalment_hold.value * 60}s`,
      start_time: time(inputs.start_time), sale_start_time: time(inputs.sale_start_time), sale_end_time: time(inputs.sale_end_time),
    };
    return Object.fromEntries(Object.entries(found).filter(([, one]) => one !== null));
  };
  // Only what was typed in: others may have changed the rest meanwhile.
  const before = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
  const changed = () => Object.keys(inputs).filter((name) => inputs[name].value !== before[name]);
  return { element, value, changed };
}

// Sections: rows of seats, or places without one.
function planFields(currency) {
  const list = h('div', { class: 'plan' });
  const total = h('p', { class: 'quiet', role: 'status' });
  const parts = [];
  const add = (name, seated = true) => {
    const part = {
      section: h('input', { required: true, maxlength: 64, value: name }),
      price: h('input', { required: true, inputmode: 'decimal', value: plain(45 * 10 ** digits(currency()), currency()), autocomplete: 'off' }),
      kind: h('select', {}, h('option', { value: 'seats' }, t('plan.seats')), h('option', { value: 'places', ...(!seated && { selected: true }) }, t('plan.places'))),
      rows: h('input', { type: 'number', min: 1, max: SEATS_MAX, required: true, value: 10 }),
      seats: h('input', { type: 'number', min: 1, max: SEATS_MAX, required: true, value: 20 }),
      quantity: h('input', { type: 'number', min: 1, max: TICKETS_MAX, required: true, value: 200 }),
    };
    const grid = [field(t('plan.rows'), part.rows), field(t('plan.per.row'), part.seats)];
    const places = field(t('plan.quantity'), part.quantity);
    const legend = h('legend', {}, name);
    const drop = h('button', { type: 'button', class: 'plain', onclick: () => { parts.splice(parts.indexOf(part), 1); box.remove(); sum(); } }, t('plan.drop'));
    const box = h('fieldset', { class: 'block card' }, legend,
      h('div', { class: 'grid' }, field(t('plan.section'), part.section), field(t('plan.price'), part.price), field(t('plan.kind'), part.kind), grid, places), drop);
    part.isSeated = () => part.kind.value === 'seats';
    part.many = () => (part.isSeated() ? part.rows.value * part.seats.value : Number(part.quantity.value));
    const show = () => {
      legend.textContent = part.section.value || '…';
      for (const one of grid) one.hidden = !part.isSeated();
      places.hidden = part.isSeated();
      for (const input of [part.rows, part.seats]) input.disabled = !part.isSeated();
      part.quantity.disabled = part.isSeated();
      const price = toMinor(part.price.value, currency());
      part.price.setCustomValidity(price >= 0 && price <= 100_000_000 ? '' : t('plan.price.wrong'));
      sum();
    };
    box.addEventListener('input', show);
    parts.push(part);
    list.append(box);
    show();
    return part;
  };
  function sum() {
    const many = parts.reduce((all, part) => all + part.many(), 0);
    const worth = parts.reduce((all, part) => all + part.many() * toMinor(part.price.value, currency()), 0);
    total.textContent = many > TICKETS_MAX ? t('plan.too.many', { n: TICKETS_MAX, number: count(TICKETS_MAX) })
      : t('plan.total', { number: count(many), worth: Number.isFinite(worth) ? money(worth, currency()) : '…' });
  }
  const value = () => parts.map((part) => ({
    section: part.section.value, price_minor: String(toMinor(part.price.value, currency())),
    ...(part.isSeated() ? { grid: { rows: Number(part.rows.value), seats_per_row: Number(part.seats.value) } } : { quantity: Number(part.quantity.value) }),
  }));
  const element = h('div', {}, list, h('div', { class: 'actions' },
    h('button', { type: 'button', class: 'second', onclick: () => add(t('plan.name', { n: parts.length + 1 })).section.focus() }, t('plan.add')),
    h('button', { type: 'button', class: 'second', onclick: () => add(t('plan.standing'), false).section.focus() }, t('plan.add.places'))), total);
  return { element, value, add, sum };
}

// The second half of a new event. Whoever goes on with it after a reload, in whichever tab, asks for the same.
export async function addTickets(eventId, { blocks, tickets }, told) {
  if (blocks.length) await api.settle(api.intend('tickets', ROLE, `/v1/events/${eventId}/tickets`, { blocks }, { event_id: eventId }, tickets), told);
}

export function newEventView(frame) {
  frame.title(t('office.new'));
  const fields = eventFields();
  const currency = h('input', { required: true, pattern: '[A-Z]{3}', maxlength: 3, value: 'EUR', autocapitalize: 'characters', autocomplete: 'off' });
  const plan = planFields(() => currency.value);
  currency.addEventListener('input', () => { currency.value = currency.value.toUpperCase(); if (currency.checkValidity()) plan.sum(); });
  plan.add(t('plan.name', { n: 1 }));
  const told = h('div', {});
  const wait = () => told.replaceChildren(notice('info', t('hold.patience')));
  // Kept between tries of this form, so that one that was cut off goes on where it was.
  let eventId = null;
  const made = form({}, async () => {
    if (!(await frame.signedIn(ROLE))) return;
    const about = { blocks: plan.value(), tickets: crypto.randomUUID() };
    if (!eventId) {
      const intent = api.intend('create', ROLE, '/v1/events', { event: { ...fields.value(), currency: currency.value } }, about);
      eventId = (await api.settle(intent, wait)).event.event_id;
    }
    await addTickets(eventId, about, wait);
    say(t('new.done'));
    frame.go(`#/organise/${eventId}`);
  }, h('h2', {}, t('new.about')), fields.element, h('h2', {}, t('new.plan')), field(t('new.currency'), currency, t('new.currency.hint')), plan.element, told, h('button', { class: 'main wide' }, t('new.create')));
  return { element: h('div', { class: 'office' }, h('h1', {}, t('office.new')), made) };
}

// --- one event

export function eventOfficeView(frame, id) {
  const tickets = new Tickets();
  let event = null;
  let closed = false;
  let stop = () => {};
  const title = h('h1', {}, '…');
  const badge = h('span', {});
  const link = h('div', { class: 'link', role: 'status' });
  const message = h('div', {});
  const figures = h('dl', { class: 'figures' });
  const chart = saleChart();
  const bars = h('ul', { class: 'bars' });
  const actions = h('div', { class: 'actions' });
  const orders = ordersPanel(id, () => event);
  const element = h('div', { class: 'office' }, h('div', { class: 'order-head' }, title, badge), link, message,
    h('section', { class: 'card', 'aria-label': t('live.title') }, h('h2', {}, t('live.title')), figures, chart.element, bars), actions, orders.element);

  async function load() {
    try {
      ({ event } = await api.request('GET', `/v1/events/${id}`, null, { role: ROLE }));
    } catch (error) {
      return message.replaceChildren(problemOf(error));
    }
    if (closed) return null;
    if (event.organiser_id !== me() && !isOperator()) {
      title.textContent = event.name;
      return message.replaceChildren(notice('bad', t('office.not.yours')));
    }
    drawHead();
    stop = api.watch(`/v1/events/${id}/tickets:watch`, {
      message: (told) => tickets.take(told),
      link: (how, error) => link.replaceChildren(...(how === 'lost' ? [t('link.lost')] : how === 'refused' ? [error.message] : [])),
    });
    orders.load();
    return null;
  }

  function drawHead() {
    frame.title(event.name);
    title.textContent = event.name;
    badge.replaceChildren(h('span', { class: `badge ${event.state.slice(6).toLowerCase()}` }, t(`event.${event.state.slice(6)}`)));
    const button = (text, kind, press) => h('button', { type: 'button', class: kind, onclick: (pressed) => press(pressed.target) }, text);
    actions.replaceChildren(h('a', { class: 'button second', href: `#/event/${id}` }, t('office.see')),
      ...(event.state === 'STATE_CANCELLED' ? [] : [button(t('office.change'), 'second', change),
        ...(event.state === 'STATE_OPEN' ? [button(t('office.more'), 'second', more), button(t('office.close'), 'second', close)] : []),
        button(t('office.cancel'), 'danger', cancel)]));
  }

  // What the stream told is shown once a second.
  const beat = setInterval(() => {
    if (!tickets.complete || document.hidden) return;
    const { free, held, sold } = tickets.counts;
    chart.add(sold, free + held + sold);
    const rate = chart.rate();
    const rows = [['sold', t('live.sold'), count(sold)], ['held', t('live.held'), count(held)], ['free', t('live.free'), count(free)],
      ['revenue', t('live.revenue'), money(tickets.revenue, event.currency)], ['rate', t('live.rate'), t('live.per.minute', { number: count(rate) })]];
    figures.replaceChildren(...rows.map(([name, text, value]) => h('div', { class: name }, h('dt', {}, text), h('dd', {}, value))));
    bars.replaceChildren(...[...tickets.sections.values()].map((section) => h('li', {}, h('span', {}, section.name),
      h('meter', { min: 0, max: section.total || 1, value: section.total - section.free, 'aria-label': t('live.section', { section: section.name }) }),
      h('span', { class: 'quiet' }, t('live.left.of', { free: count(section.free), total: count(section.total) })))));
    tickets.fresh.clear();
  }, CHART_MS);

  const patience = () => message.replaceChildren(notice('info', t('hold.patience')));
  async function act(kind, path, body, done) {
    const answer = await api.settle(api.intend(kind, ROLE, path, body, { event_id: id }), patience);
    event = answer.event;
    drawHead();
    message.replaceChildren(notice('good', done));
  }

  // A form in the page, below the actions.
  function below(build) {
    const box = h('section', { class: 'card' });
    const leave = () => { box.remove(); actions.querySelector('button')?.focus(); };
    box.append(build(leave));
    element.querySelector('.below')?.remove();
    box.classList.add('below');
    actions.after(box);
    box.querySelector('input')?.focus();
  }

  function change() {
    const fields = eventFields(event);
    below((leave) => form({}, async () => {
      const names = fields.changed();
      if (names.length) {
        const all = fields.value();
        const some = Object.fromEntries(names.filter((name) => name in all).map((name) => [name, all[name]]));
        await act('change', `/v1/events/${id}:update`, { event: some, update_mask: names.map((name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase())).join(',') }, t('office.changed'));
      }
      leave();
    }, h('h2', {}, t('office.change')), h('p', { class: 'quiet' }, t('office.change.text')), fields.element,
    h('div', { class: 'actions' }, h('button', {}, t('save')), h('button', { type: 'button', class: 'second', onclick: leave }, t('no')))));
  }

  function more() {
    const plan = planFields(() => event.currency);
    plan.add(t('plan.name', { n: tickets.sections.size + 1 }));
    below((leave) => form({}, async () => {
      await act('tickets', `/v1/events/${id}/tickets`, { blocks: plan.value() }, t('new.done'));
      leave();
    }, h('h2', {}, t('office.more')), plan.element,
    h('div', { class: 'actions' }, h('button', {}, t('save')), h('button', { type: 'button', class: 'second', onclick: leave }, t('no')))));
  }

  async function close(button) {
    if (await confirmed(t('office.close'), t('office.close.text'), t('office.close'))) await busy(button, message, () => act('close', `/v1/events/${id}:close`, {}, t('event.closed')));
  }

  async function cancel(button) {
    const reason = await confirmed(t('office.cancel'), t('office.cancel.text'), t('office.cancel'), { label: t('reason'), input: h('input', { required: true, maxlength: 200 }) });
    if (reason) await busy(button, message, () => act('call-off', `/v1/events/${id}:cancel`, { reason }, t('event.cancelled')));
  }

  load();
  return { element, close() { closed = true; clearInterval(beat); stop(); } };
}

function isOperator() {
  try {
    return JSON.parse(atob(api.session(ROLE).token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).roles.includes('operator');
  } catch {
    return false;
  }
}

// How many were sold, second by second since the page was opened.
function saleChart() {
  const points = [];
  const [width, height] = [600, 120];
  const line = svg('polyline', { class: 'line', points: '' });
  const area = svg('polygon', { class: 'area', points: '' });
  const text = h('figcaption', { class: 'quiet' });
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': t('live.chart'), preserveAspectRatio: 'none' }, area, line);
  return {
    element: h('figure', { class: 'chart' }, picture, text),
    add(sold, total) {
      points.push([Date.now(), sold]);
      if (points.length > CHART_POINTS) points.shift();
      const [begin, end] = [points[0][0], points.at(-1)[0]];
      const least = Math.min(...points.map(([, one]) => one));
      const most = Math.max(least + 1, ...points.map(([, one]) => one));
      const drawn = points.map(([time, one]) => `${(((time - begin) / Math.max(1, end - begin)) * width).toFixed(1)},${(height - 4 - ((one - least) / (most - least)) * (height - 12)).toFixed(1)}`);
      line.setAttribute('points', drawn.join(' '));
      area.setAttribute('points', `0,${height} ${drawn.join(' ')} ${width},${height}`);
      text.textContent = t('live.chart.text', { from: count(points[0][1]), to: count(sold), total: count(total) });
    },
    rate() {
      const from = points.find(([time]) => time >= Date.now() - RATE_MS) ?? points[0];
      const minutes = Math.max(CHART_MS, Date.now() - from[0]) / 60_000;
      return Math.max(0, Math.round((points.at(-1)[1] - from[1]) / Math.max(minutes, 1 / 6)));
    },
  };
}

// --- orders

function ordersPanel(id, eventNow) {
  const list = h('tbody', {});
  const told = h('div', {});
  const search = h('input', { type: 'search', maxlength: 64, autocomplete: 'off' });
  const more = h('button', { type: 'button', class: 'second', hidden: true, onclick: () => busy(more, told, () => load(true)) }, t('more'));
  let token = '';

  async function load(next = false) {
    const wanted = search.value.trim();
    if (UUID.test(wanted)) {
      const { reservation } = await api.request('GET', `/v1/reservations/${wanted.toLowerCase()}`, null, { role: ROLE });
      show([reservation].filter((one) => one.event_id === id));
      return;
    }
    const query = new URLSearchParams({ event_id: id, page_size: 50, ...(wanted && { buyer_id: wanted }), ...(next && { page_token: token }) });
    const page = await api.request('GET', `/v1/reservations?${query}`, null, { role: ROLE });
    token = page.next_page_token;
    more.hidden = !token;
    show(page.reservations, next);
  }

  function show(found, after = false) {
    const rows = found.map((one) => row(one));
    if (after) list.append(...rows);
    else list.replaceChildren(...rows);
    told.replaceChildren(...(list.children.length ? [] : [h('p', { class: 'quiet' }, t('orders.no.match'))]));
  }

  function row(one) {
    const seats = one.tickets.slice(0, 3).map(place).join(', ') + (one.tickets.length > 3 ? ` + ${one.tickets.length - 3}` : '');
    const made = h('tr', {},
      h('th', { scope: 'row' }, one.buyer_id, h('small', {}, one.reservation_id)), h('td', {}, seats || '–'), h('td', { class: 'price' }, money(one.total_minor, one.currency)),
      h('td', {}, stateBadge(one), Number(one.refund_due_minor) ? h('small', {}, t('order.back.due', { amount: money(one.refund_due_minor, one.currency) })) : '',
        Number(one.refunded_minor) ? h('small', {}, t('order.back.done', { amount: money(one.refunded_minor, one.currency) })) : ''),
      h('td', {}, one.state === 'STATE_CONFIRMED' && h('button', { type: 'button', class: 'second', 'aria-label': t('orders.refund.of', { buyer: one.buyer_id }), onclick: (pressed) => refund(one, pressed.target, made) }, t('orders.refund'))));
    return made;
  }

  async function refund(one, button, place_) {
    const reason = await confirmed(t('orders.refund'), t('orders.refund.text', { buyer: one.buyer_id, amount: money(one.paid_minor, one.currency) }), t('orders.refund'),
      { label: t('reason'), input: h('input', { required: true, maxlength: 200 }) });
    if (!reason) return;
    await busy(button, told, async () => {
      const { reservation } = await api.settle(api.intend('refund', ROLE, `/v1/reservations/${one.reservation_id}:refund`, { reason }, { event_id: id }));
      place_.replaceWith(row(reservation));
      say(t('orders.refunded', { buyer: one.buyer_id }));
      told.replaceChildren(notice('good', t('orders.refunded', { buyer: one.buyer_id })));
    });
  }

  async function everything(kind, keep, button) {
    await busy(button, told, async () => {
      const rows = [];
      for await (const page of api.pages('/v1/reservations', { event_id: id }, ROLE)) {
        rows.push(...page.reservations.filter(keep));
        told.replaceChildren(h('p', { class: 'quiet', role: 'status' }, t('csv.reading', { number: count(rows.length) })));
      }
      told.replaceChildren();
      save(`${kind}-${id.slice(0, 8)}.csv`, csv(rows.map(csvRow)));
    });
  }

  const find = form({ class: 'find' }, () => load(), field(t('orders.search'), search), h('button', { class: 'second' }, t('orders.find')));
  const csvButton = (text, kind, keep) => h('button', { type: 'button', class: 'second', onclick: (pressed) => everything(kind, keep, pressed.target) }, text);
  const element = h('section', { class: 'card', 'aria-label': t('orders.title') }, h('h2', {}, t('orders.title')), find, told,
    h('div', { class: 'table', tabindex: 0, role: 'group', 'aria-label': t('orders.title') }, h('table', {}, h('thead', {}, h('tr', {},
      [t('orders.buyer'), t('orders.seats'), t('order.total'), t('orders.state')].map((text) => h('th', { scope: 'col' }, text)), h('td', {}))), list)),
    h('div', { class: 'actions' }, more,
      csvButton(t('csv.sales'), 'sales', (one) => ['STATE_CONFIRMED', 'STATE_PARTIALLY_PAID'].includes(one.state)),
      csvButton(t('csv.refunds'), 'refunds', (one) => Number(one.refund_due_minor) + Number(one.refunded_minor) > 0)));
  return { element, load: () => load().catch((error) => told.replaceChildren(problemOf(error))) };
}

const COLUMNS = ['reservation_id', 'create_time', 'buyer_id', 'state', 'tickets', 'seats', 'total', 'paid', 'refund_due', 'refunded', 'currency'];
const csvRow = (one) => [one.reservation_id, one.create_time ?? '', one.buyer_id, one.state.slice(6), one.tickets.length, one.tickets.map(place).join('; '),
  ...[one.total_minor, one.paid_minor, one.refund_due_minor, one.refunded_minor].map((minor) => plain(minor, one.currency)), one.currency];

// A cell that a spreadsheet would take for a formula is made text by an apostrophe.
export function csv(rows) {
  const cell = (value) => {
    const text = String(value);
    const safe = /^[=+\-@\t\r\n]/.test(text.trimStart()) || /^[\t\r\n]/.test(text) ? `'${text}` : text;
    return /[",;\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [COLUMNS, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

function save(name, text) {
  const url = URL.createObjectURL(new Blob(['\ufeff', text], { type: 'text/csv' }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
