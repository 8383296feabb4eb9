export default (number) => number + 1;
