// Small means to build what is seen. Text is always a text node: no data becomes HTML.
import { locale, t } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

// h('p', {class: 'x', onclick: f}, 'text', child) is an element; null and false are passed over.
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const money = (minor, currency) => format(currency).format(Number(minor) / 10 ** digits(currency));
export const plain = (minor, currency) => (Number(minor) / 10 ** digits(currency)).toFixed(digits(currency));
export const digits = (currency) => format(currency).resolvedOptions().maximumFractionDigits;

// What somebody typed as an amount, in minor units; NaN if it is none.
export function toMinor(text, currency) {
  const number = /^\s*\d+([.,]\d+)?\s*$/.test(text) ? Number(text.replace(',', '.')) : NaN;
  const minor = number * 10 ** digits(currency);
  return Math.abs(minor - Math.round(minor)) < 1e-6 ? Math.round(minor) : NaN;
}

// To make a format takes longer than to use it a hundred times.
const formats = new Map();
function format(currency) {
  const key = `${locale()} ${currency}`;
  if (!formats.has(key)) formats.set(key, made(currency));
  return formats.get(key);
}

function made(currency) {
  if (!currency) return new Intl.NumberFormat(locale());
  try {
    return new Intl.NumberFormat(locale(), { style: 'currency', currency });
  } catch { // no code of a currency
    return new Intl.NumberFormat(locale(), { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  }
}

export const count = (number) => format('').format(number);
export const when = (time) =>
  new Intl.DateTimeFormat(locale(), { dateStyle: 'full', timeStyle: 'short' }).format(new Date(time));
export const whenShort = (time) =>
  new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(time));

// 4:05, or 1:02:05.
export function clockText(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, '0'));
  const hours = Math.floor(seconds / 3600);
  return hours ? `${hours}:${parts.join(':')}` : `${Number(parts[0])}:${parts[1]}`;
}

export const place = (ticket) =>
  ticket.row ? t('seat.place', { section: ticket.section, row: ticket.row, seat: ticket.seat }) : ticket.section;

// What a screen reader shall say. The same text twice is said twice.
export function say(text, urgent = false) {
  const region = document.getElementById(urgent ? 'urgent' : 'polite');
  region.textContent = '';
  setTimeout(() => { region.textContent = text; }, 50);
}

export function field(label, input, hint = '') {
  const id = `f${(field.last = (field.last ?? 0) + 1)}`;
  input.id = id;
  if (hint) input.setAttribute('aria-describedby', `${id}h`);
  return h('div', { class: 'field' }, h('label', { for: id }, label), input, hint && h('small', { id: `${id}h` }, hint));
}

// A notice in the page. kind: good, bad, info.
export function notice(kind, title, text = '', ...more) {
  return h('div', { class: `notice ${kind}`, role: kind === 'bad' ? 'alert' : 'status' }, h('strong', {}, title), text && h('p', {}, text), ...more);
}

// A form whose button is off while its work is under way. What goes wrong is shown in it.
export function form(properties, work, ...children) {
  const problem = h('div', {});
  const made = h('form', {
    novalidate: true, ...properties,
    onsubmit: async (event) => {
      event.preventDefault();
      const wrong = [...made.elements].find((input) => !input.checkValidity());
      if (wrong) {
        problem.replaceChildren(notice('bad', wrong.validationMessage));
        wrong.focus();
        return;
      }
      await busy(event.submitter ?? made.querySelector('button:not([type=button])'), problem, () => work(event));
    },
  }, ...children, problem);
  return made;
}

// Runs what a button is for, once at a time.
export async function busy(button, problem, work) {
  if (button?.getAttribute('aria-disabled') === 'true') return;
  button?.setAttribute('aria-disabled', 'true'); // it keeps the focus, which disabled would lose
  problem.replaceChildren();
  try {
    await work();
  } catch (error) {
    problem.replaceChildren(notice('bad', error.title ?? t('error.title'), error.message));
  } finally {
    button?.removeAttribute('aria-disabled');
  }
}

// Asks in a dialog; the promise holds what `done` was called with, or undefined if it was left.
export function ask(title, build) {
  return new Promise((resolve) => {
    let answer;
    const dialog = h('dialog', { 'aria-label': title, onclose: () => { dialog.remove(); resolve(answer); } });
    const done = (value) => { answer = value; dialog.close(); };
    dialog.append(h('div', { class: 'dialog-head' }, h('h2', {}, title),
      h('button', { type: 'button', class: 'plain', 'aria-label': t('close'), onclick: () => done() }, '✕')), build(done));
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function confirmed(title, text, yes, extra = null) {
  return ask(title, (done) => form({}, () => done(extra ? extra.input.value : true),
    h('p', {}, text), extra && field(extra.label, extra.input),
    h('div', { class: 'actions' }, h('button', { class: 'danger' }, yes),
      h('button', { type: 'button', class: 'second', onclick: () => done() }, t('no')))));
}

// A time that runs down in the server's time; calls `ended` once.
export function countdown(until, now, ended) {
  const text = h('span', { class: 'time', role: 'timer' });
  const warnings = [60_000, 30_000, 10_000].filter((left) => until - now() > left);
  let timer;
  const tick = () => {
    const left = until - now();
    text.textContent = clockText(left);
    text.classList.toggle('late', left < 60_000);
    if (warnings.length && left <= warnings[0]) say(t('hold.left', { time: clockText(warnings.shift()) }), left <= 30_000);
    if (left > 0) timer = setTimeout(tick, left % 1000 || 1000);
    else ended();
  };
  tick();
  return { element: text, stop: () => clearTimeout(timer) };
}
